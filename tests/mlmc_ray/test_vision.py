"""Vision problems: on small files in torchvision's layout, and on the real Fashion-MNIST."""

import gzip
import hashlib
import pickle
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
from mlmc_ray.problems import CIFAR10, FashionMNIST, Problem, split_by_label, vision
from mlmc_ray.problems.torchvision_import import datasets
from mlmc_ray.seeding import generator_for

NETWORKS = get_args(vision.Network)
SIZES = {
    FashionMNIST: {"perceptron": 203_530, "cnn": 421_642, "resnet18": 11_172_810},
    CIFAR10: {"perceptron": 789_258, "cnn": 545_098, "resnet18": 11_173_962},
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


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """5 images in a training and a test file; red is 10, green is 20, blue is the image's row."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    image = np.stack([np.full((32, 32), 10), np.full((32, 32), 20), np.mgrid[:32, :32][0]])
    contents: dict[str, dict[str, Any]] = {
        "meta": {"label_names": ["a"]},
        "train": {
            "data": np.tile(image.reshape(1, -1), (5, 1)).astype(np.uint8),
            "labels": [7] * 5,
        },
    }
    contents["test"] = {**contents["train"], "labels": [1, 2, 3, 4, 5]}
    sums = {}
    for name, content in contents.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test", sums["test"]]])
    meta = {"filename": "meta", "key": "label_names", "md5": sums["meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
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


def test_the_library_itself_does_not_import_torchvision() -> None:
    code = "import sys, mlmc_ray.problems\nprint('torchvision' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("cls", SIZES)
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_give_a_score_for_each_class(cls: type[Any], network: str) -> None:
    problem = cls(network=network, data_dir="unused")
    flat = FlatModel(problem.model())
    assert flat.parameters.numel() == SIZES[cls][network]
    assert flat.module(torch.zeros(2, cls.channels, cls.side, cls.side)).shape == (2, 10)


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
    assert labels.tolist() == [7] * 5
    assert bool((images[:, 0] == 10).all() and (images[:, 1] == 20).all())
    assert torch.equal(images[0, 2, :, 5], torch.arange(32, dtype=torch.uint8))
    measures = problem.evaluate(Brightest())
    assert measures == {"accuracy": 0.2, "loss": pytest.approx(np.log(10), abs=1e-6)}


class Brightest(torch.nn.Module):
    """Scores class 1 just above the others, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return torch.nn.functional.one_hot(torch.ones(len(images)).long(), 10) * 1e-6


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
    cifar = build_problem({"kind": "cifar-10", "data_dir": "x"}, "problem", ()).load()
    assert cifar == CIFAR10(data_dir="x")
    with pytest.raises(ConfigError, match=r"missing keys \['data_dir'\]"):
        build_problem("cifar-10", "problem", ())


def test_absent_clothes_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = r"datasets\.FashionMNIST\('{}', download=True\)"
    with pytest.raises(ProblemError, match=f"no complete data in {tmp_path}: run") as caught:
        FashionMNIST(data_dir=tmp_path).evaluate(Brightest())
    caught.match(fetch.format(tmp_path))
    caught.match("run 'apt install dataset-fashion-mnist' and leave data_dir out")
    monkeypatch.setattr(vision, "DEBIAN_FASHION_MNIST", tmp_path)
    vision._fashion_mnist.cache_clear()
    with pytest.raises(ProblemError, match=f"there is no {tmp_path}/train-images") as caught:
        FashionMNIST().evaluate(Brightest())
    caught.match("run 'apt install dataset-fashion-mnist', or give data_dir, after python -c")
    caught.match(fetch.format("DIRECTORY"))


def test_absent_photographs_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"datasets\.CIFAR10\('.*', download=True\)\"$"):
        CIFAR10(data_dir=tmp_path).shard(0, 1, generator_for(0))


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


@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_round(clothes: Path, network: str) -> None:
    problem = {"kind": "fashion-mnist", "network": network, "data_dir": str(clothes)}
    check_round({**problem, "test_examples": 10})


@real_data
@pytest.mark.parametrize("network", NETWORKS)
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
