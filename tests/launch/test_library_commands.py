"""Commands about the library, and compressors of one's own."""

import json
import math
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from launch import Session
from launch.benching.benched import benched, square_layers
from launch.benching.codec_report import wrapped
from launch.benching.codec_result import measured
from launch.benching.measuring import peak_gpu_memory, seconds
from launch.benching.rate_plot import offsets, plot
from launch.cli import app
from launch.configuration.catalogue import KINDS
from launch.configuration.fields import name_of
from mlmc_ray.compressors import Bernoulli, Compressor, RandK
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import FixedPointLadder, Ladder, RTNLadder
from mlmc_ray.laws import LevelLaw, OwnLaw
from mlmc_ray.payloads import Message
from mlmc_ray.wire import encode

MINE = """
from dataclasses import dataclass
from mlmc_ray.payloads import SparsePayload

@dataclass(frozen=True, kw_only=True)
class FirstK:
    k: int
    unbiased = False

    def compress(self, vector, *, generator):
        import torch
        return SparsePayload(len(vector), torch.arange(self.k), vector[: self.k])

    def omega(self, dim):
        return None

    def alpha(self, dim):
        return None

    def paper_cost(self, dim):
        return None

@dataclass(frozen=True)
class NoCompressor:
    k: int = 1

class NoDataclass:
    pass

@dataclass(frozen=True, kw_only=True)
class Boom(FirstK):
    def compress(self, vector, *, generator):
        return {}["boom"]

@dataclass(frozen=True, kw_only=True)
class Echo(FirstK):
    def compress(self, vector, *, generator):
        return vector
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_every_compressor_is_listed_on_a_line() -> None:
    result = run("compressors")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for shape, group in ((Compressor, "compressor"), (Ladder, "ladder"), (LevelLaw, "law")):
        for kind in KINDS[shape]:
            (line,) = [line for line in lines if line.startswith(f"{kind} ({group}")]
            assert "arXiv:" in line or kind not in (
                "mlmc",
                "geometric",
                "refinement",
                *KINDS[LevelLaw],
            )
    (line,) = [line for line in lines if line.startswith("perm-k (")]
    assert "omega 7 for perm-k and 8 workers" in line
    assert "num_workers" not in line
    (line,) = [line for line in lines if line.startswith("mlmc (")]
    assert "law=adaptive" in line


def test_words_are_whole_on_a_narrow_terminal() -> None:
    wide = " ".join(run("compressors").output.split())
    environment = {"COLUMNS": "80", "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb"}
    narrow = CliRunner().invoke(app, ["compressors"], env=environment).output
    assert max(map(len, narrow.splitlines())) <= 80
    for word in ("arXiv:2507.05508", "exponential-dithering", "segment_size,", "Zukerman"):
        assert word in wide
        assert narrow.count(word) == wide.count(word), word


def test_every_compressor_and_ladder_is_measured_once() -> None:
    measured = benched(square_layers(1000))
    assert {type(compressor) for compressor in measured} == set(KINDS[Compressor].values())
    ladders = [compressor.ladder for compressor in measured if isinstance(compressor, MLMC)]
    assert {type(ladder) for ladder in ladders} == set(KINDS[Ladder].values())
    rtn = {ladder.construction for ladder in ladders if isinstance(ladder, RTNLadder)}
    assert rtn == set(get_args(get_type_hints(RTNLadder)["construction"]))
    names = [name_of(compressor) for compressor in measured]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dim", [1, 7, 1000, 1024])
def test_layers_of_a_vector_without_any_are_a_matrix_and_the_rest(dim: int) -> None:
    shapes = square_layers(dim)
    assert sum(math.prod(shape) for shape in shapes) == dim
    rows, columns = shapes[0]
    assert rows <= columns <= rows + 2
    by_name = {name_of(compressor): compressor for compressor in benched(shapes)}
    assert by_name["power-sgd(rank=4)"].layer_shapes == shapes  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [pytest.param("gaussian", marks=pytest.mark.slow), "gradient"])
def test_the_plain_command_takes_any_vector(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    arguments = ["--kind", kind, "--draws", "1", "--json", str(path)]
    size = ["--dim", "1000"] if kind == "gaussian" else []
    result = run("bench", "codecs", *arguments, *size)
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(path.read_text())["compressors"]}
    assert len(rows) == len(benched(square_layers(1000)))
    assert rows["power-sgd(rank=4)"]["bits_per_value"] < 16
    assert rows["per-layer(compressor=top-k(k=0.01))"] != rows["top-k(k=0.01)"]


@pytest.mark.parametrize(
    "dim", [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(7, marks=pytest.mark.slow)]
)
def test_no_compressor_fails_on_a_short_vector(dim: int) -> None:
    result = run("bench", "codecs", "--dim", str(dim), "--draws", "1")
    assert result.exit_code == 0, result.output
    assert "failed" not in result.output


def test_codecs_are_compared(tmp_path: Path) -> None:
    problem = ["--problem", "{kind: digits, batch_norm: false}"]
    for kind, more in (("gaussian", ["--dim", "5000"]), ("gradient", problem)):
        arguments = ["--kind", kind, "--only", "top-k", "--only", "qsgd(levels=4", *more]
        files = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]
        result = run("bench", "codecs", *arguments, *files)
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["device"] == "cpu"
        assert report["copy_ms"] > 0
        assert report["machine"].keys() >= {"processor", "cores", "torch", "numpy"}
        assert report["dim"] == (5000 if kind == "gaussian" else 38_282)
        rows = {row["name"]: row for row in report["compressors"]}
        assert list(rows) == ["top-k(k=0.01)", "qsgd(levels=4)"]
        top = rows["top-k(k=0.01)"]
        assert 0 < top["relative_error"] < 1
        assert (top["levels"], top["draws"]) == (None, 10)
        assert top["bits_per_value"] == pytest.approx(top["ideal_bits_per_value"], rel=0.2)
        assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_rare_levels_count_by_their_probabilities() -> None:
    estimator = MLMC(ladder=FixedPointLadder(), law=OwnLaw())
    vector = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    row = measured(estimator, vector, 3, 1.0)
    energy = float(vector.double().square().sum())
    assert row.relative_error == pytest.approx(estimator.variance(vector) / energy, rel=1e-6)
    chances = estimator.probabilities(vector).tolist()
    sizes = [
        len(encode(Message({"v": estimator.at_level(vector, level)})))
        for level in range(1, len(chances) + 1)
    ]
    mean = sum(chance * size for chance, size in zip(chances, sizes, strict=True))
    assert row.frame_bytes == pytest.approx(mean)
    assert row.slope == pytest.approx(1)
    assert (row.levels, row.draws, row.error_standard_error) == (len(chances), None, None)


def test_means_over_draws_have_a_standard_error() -> None:
    vector = torch.ones(4)
    row = measured(RandK(k=2), vector, 4, 1.0)
    assert (row.levels, row.draws) == (None, 4)
    assert row.relative_error == pytest.approx(1)
    assert row.error_standard_error == 0  # every message is 2 in two places, and 0 in two
    row = measured(Bernoulli(p=0.5), vector, 100, 1.0)
    assert row.error_standard_error == 0
    row = measured(Bernoulli(p=0.25), vector, 400, 1.0)  # (1 + 8 B) / 4, B of variance 3/4
    assert row.error_standard_error == pytest.approx(math.sqrt(3 / 400), rel=0.2)
    assert measured(RandK(k=2), vector, 1, 1.0).error_standard_error is None


def test_a_compressor_of_ones_own_is_measured_and_may_fail(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_bench"
    (tmp_path / f"{module}.py").write_text(MINE)
    described = [f"{{kind: {module}.Boom, k: 2}}", f"{{kind: {module}.FirstK, k: 3}}"]
    arguments = [text for one in described for text in ("--compressor", one)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = run("bench", "codecs", "--dim", "50", "--json", "r.json", *arguments)
    assert result.exit_code == 1
    assert "Boom(k=2) failed: ProblemError: compressor Boom: KeyError" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert [row["name"] for row in report["compressors"]] == ["FirstK(k=3)"]
    assert [row["name"] for row in report["failures"]] == ["Boom(k=2)"]


def test_names_break_after_brackets_and_commas_only() -> None:
    for compressor in benched(square_layers(1000)):
        name = name_of(compressor)
        lines = wrapped(name).split("\n")
        assert all(len(line) <= 36 for line in lines)
        assert "".join(lines).replace(" ", "") == name.replace(" ", "")
        assert all(line[-1] in "(," for line in lines[:-1])


def test_numbers_of_a_plot_lie_apart() -> None:
    points = np.random.default_rng(0).uniform(0, 60, size=(12, 2))
    labels = points + np.array(offsets(points))
    for number, label in enumerate(labels):
        others = np.concatenate([points, np.delete(labels, number, axis=0)])
        apart = np.abs(others - label)
        assert ((apart[:, 0] >= 11) | (apart[:, 1] >= 8)).all()


def test_the_limit_is_drawn_for_gaussian_vectors_only(tmp_path: Path) -> None:
    row = measured(RandK(k=2), torch.ones(4), 2, 1.0)
    for kind in ("gaussian", "laplace"):
        plot([row], tmp_path / f"{kind}.svg", kind)
    sizes = [len((tmp_path / f"{kind}.svg").read_text()) for kind in ("gaussian", "laplace")]
    assert sizes[0] > sizes[1] + 1000  # the curve has 200 points


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--kind", "cauchy"], "--kind cauchy: known are ['gaussian'"),
        (["--only", "top"], "--only top: no compressor is called that (did you mean 'top-k'?)"),
        (["--only", "top-k(k=0.5"], "--only top-k(k=0.5: no compressor is called that"),
        (["--compressor", "{kind: top-k}"], "compressor: missing keys ['k']"),
        (["--compressor", "{kind"], "--compressor {kind: is not YAML"),
        (["--kind", "gradient", "--dim", "9"], "--dim 9: a gradient has as many values as"),
        (["--problem", "digits"], "--problem digits: has no effect on --kind gaussian"),
        (["--json", "no/such/r.json"], "no/such/r.json: cannot be written: No such file"),
        (["--json", "."], ".: cannot be written: Is a directory"),
        (["--plot", "rate.txt"], "--plot rate.txt: give a name that ends in one of ['.png'"),
        (["--kind", "gradient", "--problem", "digit"], "--problem.kind: unknown 'digit'"),
        (["--kind", "gradient", "--problem", "{kind"], "--problem {kind: is not YAML"),
        (["--device", "tpu"], "--device tpu: known are ['cpu', 'cuda']"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], text: str) -> None:
    result = run("bench", "codecs", *arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("bench", "codecs", "--device", "cuda", "--dim", "100")
    assert result.exit_code == 2
    assert "--device cuda: torch finds no CUDA device" in result.output
    assert "Traceback" not in result.output


def test_times_on_a_gpu_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("wait"))
    taken = seconds(lambda: calls.append("work"), torch.device("cuda"))
    assert calls == ["wait", "work", "wait"]
    assert taken >= 0
    calls.clear()
    seconds(lambda: calls.append("work"), torch.device("cpu"))
    assert calls == ["work"]


def test_memory_on_a_gpu_is_the_growth_of_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 350)
    with peak_gpu_memory() as peak:
        assert peak == []
    assert peak == [250]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_codecs_are_compared_on_a_gpu(tmp_path: Path) -> None:
    arguments = ["--device", "cuda", "--dim", "5000", "--only", "top-k", "--only", "drive"]
    result = run("bench", "codecs", *arguments, "--json", str(tmp_path / "r.json"))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["device"] == "cuda"
    assert report["machine"]["gpu"]
    assert all(row["extra_bytes"] > 0 for row in report["compressors"])


def config_with(tmp_path: Path, compressor: object) -> Path:
    (tmp_path / f"{tmp_path.name}_mine.py").write_text(MINE)
    config = {
        "problem": {"kind": "quadratic", "dim": 8},
        "method": {"kind": "compressed-sgd", "compressor": compressor},
        "optimizer": {"kind": "sgd", "step_size": 0.01},
        "engine": "inline",
        "rounds": 3,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_compressor_of_ones_own_by_dotted_path(tmp_path: Path) -> None:
    mine = {"kind": f"{tmp_path.name}_mine.FirstK", "k": 2}
    unbiased = {"kind": "mlmc", "ladder": {"kind": "refinement", "compressor": mine, "steps": 2}}
    for compressor in (mine, unbiased):
        out = tmp_path / f"run-{compressor['kind']}"
        with Session(config_with(tmp_path, compressor), out=out) as session:
            session.run()
        with Session(out / "config.yaml") as again:
            again.run()
            assert again.ledger == session.ledger


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("NoCompressor", ConfigError, r"NoCompressor lacks \['.*compress"),
        ("NoDataclass", ConfigError, "NoDataclass is not a dataclass"),
        ("Missing", ProblemError, "has no 'Missing'"),
    ],
)
def test_what_is_no_compressor_is_refused(
    tmp_path: Path, kind: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Session(config_with(tmp_path, f"{tmp_path.name}_mine.{kind}"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "Boom",
            r"compressor Boom: KeyError while compressing: 'boom' \(.*_mine\.py, line \d+, in",
        ),
        ("Echo", "compressor Echo: compress returned a Tensor: return a payload"),
    ],
)
def test_errors_of_a_compressor_of_ones_own_name_it(tmp_path: Path, kind: str, text: str) -> None:
    mine = {"kind": f"{tmp_path.name}_mine.{kind}", "k": 2}
    failing = pytest.raises(ProblemError, match=text)
    with Session(config_with(tmp_path, mine)) as session, failing:
        session.run()
