"""Vision problems: on small files in torchvision's layout, and on the real Fashion-MNIST."""

import gzip
import hashlib
import io
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from launch import Session
from launch.configuration.build import build_problem
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import CIFAR10, CIFAR100, FashionMNIST, Problem, split_by_label, vision
from mlmc_ray.problems.torchvision_import import datasets
from mlmc_ray.seeding import drawing, generator_for

NETWORKS = get_args(vision.Network)
LARGE = ("resnet18",)
SIZES = {
    FashionMNIST: {"perceptron": 203_530, "cnn": 421_642, "resnet18": 11_172_810},
    CIFAR10: {"perceptron": 789_258, "cnn": 545_098, "resnet18": 11_173_962},
    CIFAR100: {"perceptron": 812_388, "cnn": 556_708, "resnet18": 11_220_132},
}
real_data = pytest.mark.skipif(
    not vision.DEBIAN_FASHION_MNIST.is_dir(),
    reason=f"no {vision.DEBIAN_FASHION_MNIST}: apt install dataset-fashion-mnist",
)


def write_idx(path: Path, values: np.ndarray) -> None:
    shape = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + shape + values.tobytes())


@pytest.fixture(scope="session")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training and 30 test images; the pixels of image i are i, its label is i modulo 10."""
    root = tmp_path_factory.mktemp("clothes")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, size in (("train", 60), ("t10k", 30)):
        numbers = np.arange(size, dtype=np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte", np.tile(numbers[:, None, None], (1, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", numbers % 10)
    return root


Pickler: Any = pickle._Pickler  # the one in Python, whose steps can be replaced


class Python2Pickler(Pickler):  # type: ignore[misc]
    """Writes as Python 2 did, which wrote the real files: strings of bytes, flags as numbers."""

    dispatch = Pickler.dispatch.copy()

    def save_string(self, value: "bytes | str") -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    def save_flag(self, value: bool) -> None:
        self.save_long(int(value))

    dispatch[bytes] = dispatch[str] = save_string
    dispatch[bool] = save_flag


def python2_pickle(content: Any) -> bytes:
    """Return what Python 2 and NumPy 1 would have written."""
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def write_photographs(
    root: Path, cls: Any, images: dict[str, list[int]], patch: pytest.MonkeyPatch
) -> None:
    """Write files as those of CIFAR, and let torchvision expect their checksums.

    Args:
        root: the ``data_dir``.
        cls: torchvision's class.
        images: the labels of every file; red is 10, green is 20, blue is the image's row.
        patch: of the checksums.
    """
    folder, many = root / cls.base_folder, cls.__name__ == "CIFAR100"
    folder.mkdir()
    image = np.stack([np.full((32, 32), 10), np.full((32, 32), 20), np.mgrid[:32, :32][0]])
    names = {"label_names": [f"class {i}" for i in range(10)], "num_vis": 3072}
    if many:
        names = {key: [f"class {i}" for i in range(100)] for key in ("fine_label_names", "coarse")}
    contents: dict[str, dict[str, Any]] = {cls.meta["filename"]: names}
    for name, labels in images.items():
        contents[name] = {
            "batch_label": name,
            "data": np.tile(image.reshape(1, -1), (len(labels), 1)).astype(np.uint8),
            "filenames": [f"{i}.png" for i in range(len(labels))],
        }
        if many:
            contents[name].update(fine_labels=labels, coarse_labels=[0] * len(labels))
        else:
            contents[name]["labels"] = labels
    sums = {}
    for name, content in contents.items():
        data = python2_pickle(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    for part in ("train_list", "test_list"):
        patch.setattr(cls, part, [[name, sums[name]] for name, _ in getattr(cls, part)])
    patch.setattr(cls, "meta", {**cls.meta, "md5": sums[cls.meta["filename"]]})


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """5 training files of CIFAR-10, of an image each, and 5 test images."""
    images = {f"data_batch_{i}": [4 + i] for i in range(1, 6)}
    images["test_batch"] = [1, 2, 3, 4, 5]
    write_photographs(tmp_path, datasets.CIFAR10, images, monkeypatch)
    return tmp_path


@pytest.fixture
def more_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """3 training and 2 test images of CIFAR-100."""
    images = {"train": [0, 42, 99], "test": [1, 98]}
    write_photographs(tmp_path, datasets.CIFAR100, images, monkeypatch)
    return tmp_path


def test_torchvision_is_imported_in_a_fresh_process() -> None:
    code = (
        "from mlmc_ray.problems.torchvision_import import datasets, models\n"
        "from torchvision import transforms\n"
        "import torchvision\n"
        "print(len(list(models.resnet18().parameters())), datasets.CIFAR10.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("62 CIFAR10\n", "")


@pytest.mark.parametrize("cls", SIZES)
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_give_a_score_for_each_class(cls: type[Any], network: str) -> None:
    problem = cls(network=network, data_dir="unused")
    flat = FlatModel(problem.model())
    assert flat.parameters.numel() == SIZES[cls][network]
    assert flat.module(torch.zeros(2, cls.channels, cls.side, cls.side)).shape == (2, cls.classes)


def test_the_stem_of_the_residual_network_keeps_the_resolution() -> None:
    module: Any = FashionMNIST(network="resnet18").model()
    stem = module.maxpool(module.conv1(torch.zeros(1, 1, 28, 28)))
    assert stem.shape == (1, 64, 28, 28)
    assert float(module.conv1.weight.detach().std()) == pytest.approx(
        (2 / (64 * 9)) ** 0.5, rel=0.15
    )


def test_clothes_come_as_written(clothes: Path) -> None:
    problem = FashionMNIST(data_dir=clothes)
    images, labels = problem.shard(0, 1, generator_for(0)).full()
    assert images.shape == (60, 1, 28, 28)
    assert images.dtype == torch.uint8
    numbers = images[:, 0, 0, 0].long()
    assert bool((images == images[:, :, :1, :1]).all())
    assert numbers.sort().values.tolist() == list(range(60))
    assert torch.equal(labels, numbers % 10)


def test_photographs_come_as_written(photographs: Path) -> None:
    problem = CIFAR10(data_dir=photographs)
    images, labels = problem.shard(0, 1, generator_for(0)).full()
    assert images.shape == (5, 3, 32, 32)
    assert sorted(labels.tolist()) == [5, 6, 7, 8, 9]
    assert bool((images[:, 0] == 10).all() and (images[:, 1] == 20).all())
    assert torch.equal(images[0, 2, :, 5], torch.arange(32, dtype=torch.uint8))
    measures = problem.evaluate(Brightest())
    assert measures == {"accuracy": 0.2, "loss": pytest.approx(np.log(10), abs=1e-6)}


def test_photographs_of_100_classes_come_as_written(more_photographs: Path) -> None:
    problem = CIFAR100(data_dir=more_photographs)
    images, labels = problem.shard(0, 1, generator_for(0)).full()
    assert images.shape == (3, 3, 32, 32)
    assert sorted(labels.tolist()) == [0, 42, 99]
    assert bool((images[:, 0] == 10).all() and (images[:, 1] == 20).all())
    assert torch.equal(images[0, 2, :, 5], torch.arange(32, dtype=torch.uint8))
    model = Brightest(classes=100)
    measures = problem.evaluate(model)
    assert measures == {"accuracy": 0.5, "loss": pytest.approx(np.log(100), abs=1e-6)}
    expected = (torch.tensor([10, 20, 7]) / 255 - torch.tensor(CIFAR100.mean)) / torch.tensor(
        CIFAR100.std
    )
    torch.testing.assert_close(model.seen[0][0, :, 7, 5], expected)


@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
def test_damaged_photographs_say_how_to_get_them(
    request: pytest.FixtureRequest, cls: type[Any]
) -> None:
    root = request.getfixturevalue("photographs" if cls is CIFAR10 else "more_photographs")
    folder = root / getattr(datasets, cls.__name__).base_folder
    next(folder.glob("test*")).write_bytes(b"not pickled")
    with pytest.raises(ProblemError, match=f"no complete data in {folder}: run python -c"):
        cls(data_dir=root).evaluate(Brightest())


class Brightest(torch.nn.Module):
    """Scores class 1 just above the others, and keeps what it was given."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.classes = classes
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return torch.nn.functional.one_hot(torch.ones(len(images)).long(), self.classes) * 1e-6


def test_images_are_normalised(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "_EVALUATED_AT_ONCE", 7)
    problem, model = FashionMNIST(data_dir=clothes), Brightest()
    assert problem.evaluate(model)["accuracy"] == 0.1
    assert [len(images) for images in model.seen] == [7, 7, 7, 7, 2]
    expected = (torch.arange(30) / 255 - 0.2860) / 0.3530
    torch.testing.assert_close(torch.cat(model.seen)[:, 0, 0, 0], expected)
    loss = problem.loss(
        model, (torch.full((2, 1, 28, 28), 255, dtype=torch.uint8), torch.ones(2).long())
    )
    assert loss.shape == ()
    assert float(model.seen[-1].max()) == pytest.approx((1 - 0.2860) / 0.3530)


def augmented(images: torch.Tensor, seed: int, problem: Any = None) -> torch.Tensor:
    """Return what a model in training is given, as bytes."""
    problem, model = problem or CIFAR10(augment=True, data_dir="unused"), Brightest()
    with drawing(seed):
        problem.loss(model, (images, torch.zeros(len(images)).long()))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (problem.mean, problem.std))
    return ((model.seen[0] * std + mean) * 255).round().to(torch.uint8)


def test_images_are_moved_and_mirrored_at_random() -> None:
    """Every shift is drawn 25 times of 2,000 on average, and none with probability below 2e-9.

    The mirrored ones are 1,000, with a standard deviation of 22.
    """
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    image = torch.stack([rows + 1, columns + 1, torch.full((32, 32), 200)]).to(torch.uint8)
    batch = image.repeat(2_000, 1, 1, 1)
    moved = augmented(batch, 1)
    assert torch.equal(batch, image.repeat(2_000, 1, 1, 1))
    shifts = set()
    num_mirrored = 0
    for picture in moved:
        mirrored = bool(picture[1, 16, 15] > picture[1, 16, 16])
        num_mirrored += mirrored
        picture = picture.flip(2) if mirrored else picture
        down, right = (int(picture[i, 16, 16]) - 17 for i in (0, 1))
        shifts.add((down, right))
        expected = torch.nn.functional.pad(image, (4, 4, 4, 4))
        expected = expected[:, 4 + down : 36 + down, 4 + right : 36 + right]
        assert torch.equal(picture, expected)
    assert shifts == {(i, j) for i in range(-4, 5) for j in range(-4, 5)}
    assert 850 < num_mirrored < 1_150


@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100, FashionMNIST])
def test_augmentation_is_drawn_by_name_and_only_in_training(cls: type[Any]) -> None:
    sizes = (6, cls.channels, cls.side, cls.side)
    images = torch.randint(256, sizes, generator=generator_for(0)).to(torch.uint8)
    problem = cls(augment=True, data_dir="unused")
    once, again, other = (augmented(images, seed, problem) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(augmented(images, 1, cls(data_dir="unused")), images)
    model = Brightest().eval()
    with drawing(1):
        problem.loss(model, (images, torch.zeros(6).long()))
    torch.testing.assert_close(model.seen[0], problem._normalised(images), rtol=0, atol=0)


def test_evaluation_is_on_images_as_they_are(clothes: Path) -> None:
    plain, changed = Brightest(), Brightest()  # in training mode, as a user may leave them
    FashionMNIST(data_dir=clothes).evaluate(plain)
    FashionMNIST(data_dir=clothes, augment=True).evaluate(changed)
    assert torch.equal(torch.cat(plain.seen), torch.cat(changed.seen))


def test_evaluation_on_fewer_images(clothes: Path) -> None:
    problem, model = FashionMNIST(data_dir=clothes, test_examples=4), Brightest()
    assert problem.evaluate(model)["accuracy"] == 0.25
    assert sum(map(len, model.seen)) == 4


def test_heterogeneous_shards_cover_the_images(clothes: Path) -> None:
    problem = FashionMNIST(data_dir=clothes, alpha=0.1)
    shards = [problem.shard(i, 4, generator_for(0)) for i in range(4)]
    numbers = torch.cat([shard.tensors[0][:, 0, 0, 0] for shard in shards])
    assert numbers.sort().values.tolist() == list(range(60))
    counts = torch.stack([shard.tensors[1].bincount(minlength=10) for shard in shards])
    assert int((counts == 0).sum()) > 10  # most classes are missing from most shards


@pytest.mark.parametrize("alpha", [1e-300, 0.3, 1e6])
@pytest.mark.parametrize("num_workers", [1, 7, 40])
def test_examples_are_dealt_once_each_by_label(alpha: float, num_workers: int) -> None:
    examples = torch.arange(40)
    shards = [
        split_by_label((examples, examples % 3), alpha, i, num_workers, generator_for(1))
        for i in range(num_workers)
    ]
    dealt = torch.cat([shard.tensors[0] for shard in shards])
    assert dealt.sort().values.tolist() == examples.tolist()
    assert min(len(shard.tensors[0]) for shard in shards) >= 1
    assert all(torch.equal(shard.tensors[0] % 3, shard.tensors[1]) for shard in shards)


def test_the_spread_of_shards_follows_alpha() -> None:
    """A share has variance (1 / n)(1 - 1 / n) / (n alpha + 1); here over 400 classes of 4 workers.

    The mean of the squares of 1,600 shares, whose relative standard deviation is below 0.04, is
    above a relative error of 0.25 with a probability below 1e-8.
    """
    labels = torch.arange(400).repeat_interleave(100)
    for alpha in (0.5, 4.0):
        shards = [
            split_by_label((labels, labels), alpha, i, 4, generator_for(5)).tensors[1].bincount()
            for i in range(4)
        ]
        shares = torch.stack([torch.nn.functional.pad(s, (0, 400 - len(s))) for s in shards]) / 100
        variance = float((shares.double() - 0.25).square().mean())
        assert variance == pytest.approx(0.1875 / (4 * alpha + 1), rel=0.25)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_concentrations_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha is {alpha}: give a number above 0"):
        FashionMNIST(alpha=alpha)
    with pytest.raises(ValueError, match=f"alpha is {alpha}: give a number above 0"):
        split_by_label((torch.arange(2), torch.arange(2)), alpha, 0, 1, generator_for(0))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"network": "vgg"}, r"network is 'vgg': give one of \['perceptron', 'cnn', 'resnet18'\]"),
        ({"test_examples": 0}, "test_examples is 0: give 1 to 10000"),
        ({"test_examples": 10_001}, "test_examples is 10001"),
        ({"augment": 1}, "augment is 1: give true or false"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FashionMNIST(**options)


def test_kinds_of_the_configuration(clothes: Path) -> None:
    options = {"network": "perceptron", "alpha": 1, "data_dir": str(clothes)}
    source = build_problem({"kind": "fashion-mnist", **options}, "problem", ())
    assert source.load() == FashionMNIST(network="perceptron", alpha=1, data_dir=str(clothes))
    assert isinstance(build_problem("fashion-mnist", "problem", ()).load(), FashionMNIST)
    for kind, cls in {"cifar-10": CIFAR10, "cifar-100": CIFAR100}.items():
        description = {"kind": kind, "data_dir": "x", "augment": True}
        assert build_problem(description, "problem", ()).load() == cls(data_dir="x", augment=True)
        with pytest.raises(ConfigError, match=r"missing keys \['data_dir'\]"):
            build_problem(kind, "problem", ())


def test_absent_clothes_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = r'datasets\.FashionMNIST\("{}", download=True\)'
    with pytest.raises(
        ProblemError, match=f"complete data in {tmp_path}/FashionMNIST/raw: run"
    ) as caught:
        FashionMNIST(data_dir=tmp_path).evaluate(Brightest())
    caught.match(fetch.format(tmp_path))
    caught.match("run 'apt install dataset-fashion-mnist' and leave data_dir out")
    monkeypatch.setattr(vision, "DEBIAN_FASHION_MNIST", tmp_path)
    vision._fashion_mnist.cache_clear()
    with pytest.raises(ProblemError, match=f"there is no {tmp_path}/train-images") as caught:
        FashionMNIST().evaluate(Brightest())
    caught.match("run 'apt install dataset-fashion-mnist', or give data_dir, after python -c")
    caught.match(fetch.format("DIRECTORY"))


@pytest.mark.parametrize(
    ("cls", "folder"), [(CIFAR10, "cifar-10-batches-py"), (CIFAR100, "cifar-100-python")]
)
def test_absent_photographs_say_how_to_get_them(
    tmp_path: Path, cls: type[Any], folder: str
) -> None:
    root = tmp_path / "one's own"
    with pytest.raises(ProblemError, match=f"no complete data in {root / folder}: run ") as caught:
        cls(data_dir=root).shard(0, 1, generator_for(0))
    command = shlex.split(str(caught.value).partition(": run ")[2])
    assert command[:2] == ["python", "-c"]
    assert command[2].endswith(f'datasets.{cls.__name__}("{root}", download=True)')


@pytest.mark.parametrize(
    "content",
    [b"", b"not images", bytes([0, 0, 10, 3]) + bytes(12), bytes([0, 0, 8, 1]) + bytes(4)],
    ids=["empty", "other bytes", "no such type", "one dimension"],
)
def test_a_damaged_file_of_clothes_is_named(clothes: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copytree(clothes, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "FashionMNIST/raw/t10k-images-idx3-ubyte"
    broken.write_bytes(content)
    text = rf"cannot read {broken} \(.*\): delete it and run python -c .*, or run 'apt install"
    with pytest.raises(ProblemError, match=text):
        FashionMNIST(data_dir=tmp_path).evaluate(Brightest())


@pytest.mark.parametrize("packed", [b"", b"not gzip", gzip.compress(b"not images", mtime=0)])
def test_a_damaged_package_is_named(
    clothes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bytes
) -> None:
    for path in (clothes / "FashionMNIST/raw").iterdir():
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    broken = tmp_path / "train-labels-idx1-ubyte.gz"
    broken.write_bytes(packed)
    monkeypatch.setattr(vision, "DEBIAN_FASHION_MNIST", tmp_path)
    vision._fashion_mnist.cache_clear()
    text = rf"cannot read {broken} \(.*\): run 'apt install --reinstall dataset-fashion-mnist'$"
    with pytest.raises(ProblemError, match=text):
        FashionMNIST().evaluate(Brightest())


@pytest.mark.parametrize(
    ("network", "augment"),
    [
        pytest.param(
            network, augment, marks=[pytest.mark.slow] if network in LARGE and augment else []
        )
        for network in NETWORKS
        for augment in (False, True)
    ],
)
def test_a_training_round(clothes: Path, network: str, augment: bool) -> None:
    problem = {"kind": "fashion-mnist", "network": network, "data_dir": str(clothes)}
    check_round({**problem, "test_examples": 10, "augment": augment})


def test_a_training_round_on_100_classes(more_photographs: Path) -> None:
    check_round({"kind": "cifar-100", "data_dir": str(more_photographs), "augment": True})


@real_data
@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in NETWORKS],
)
def test_a_training_round_on_the_real_images(network: str) -> None:
    check_round({"kind": "fashion-mnist", "network": network, "alpha": 0.5, "test_examples": 10})


def check_round(problem: dict[str, Any]) -> None:
    config = {
        "problem": problem,
        "method": {
            "kind": "compressed-sgd",
            "compressor": {"kind": "mlmc", "law": "own", "ladder": "fixed-point"},
        },
        "optimizer": {"kind": "sgd", "step_size": 0.01},
        "workers": 2,
        "batch_size": 3,
        "engine": "inline",
    }
    with Session(config) as session:
        before = session.parameters().clone()
        session.run(1)
        assert not torch.equal(session.parameters(), before)
        assert 0 <= session.evaluate()["accuracy"] <= 1


@real_data
def test_the_real_images() -> None:
    problem: Problem = FashionMNIST()
    images, labels = problem.shard(0, 1, generator_for(0)).full()
    assert images.shape == (60_000, 1, 28, 28)
    assert labels.bincount().tolist() == [6_000] * 10
    pixels = images.double() / 255
    assert float(pixels.mean()) == pytest.approx(FashionMNIST.mean[0], abs=5e-5)
    assert float(pixels.std()) == pytest.approx(FashionMNIST.std[0], abs=5e-5)
    assert problem.evaluate(Brightest())["accuracy"] == 0.1


@real_data
def test_the_perceptron_learns_clothes() -> None:
    problem = FashionMNIST(network="perceptron", test_examples=1_000)
    torch.manual_seed(0)
    flat = FlatModel(problem.model())
    shard, draws = problem.shard(0, 1, generator_for(0)), generator_for(1)
    for _ in range(100):
        flat.gradients.zero_()
        problem.loss(flat.module, shard.sample(64, draws)).backward()  # type: ignore[no-untyped-call]
        flat.parameters.sub_(flat.gradients, alpha=0.1)
    assert problem.evaluate(flat.module)["accuracy"] > 0.7
