"""Commands about the library, and compressors of one's own."""

import json
import math
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from launch import Session
from launch.benched import benched, square_layers
from launch.catalogue import KINDS
from launch.cli import app
from launch.fields import name_of
from launch.measuring import peak_gpu_memory, seconds
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import Ladder, RTNLadder

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


def test_every_compressor_is_listed() -> None:
    result = run("compressors")
    assert result.exit_code == 0, result.output
    for kinds in KINDS.values():
        if any(issubclass(cls, object) and hasattr(cls, "compress") for cls in kinds.values()):
            assert all(name in result.output for name in kinds)
    assert "arXiv:2507.05508" in result.output


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


@pytest.mark.parametrize("kind", ["gaussian", "gradient"])
def test_the_plain_command_takes_any_vector(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    arguments = ["--dim", "1000", "--kind", kind, "--draws", "1", "--json", str(path)]
    result = run("bench", "codecs", *arguments)
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(path.read_text())["compressors"]}
    assert len(rows) == len(benched(square_layers(1000)))
    assert rows["power-sgd(rank=4)"]["bits_per_value"] < 16
    assert rows["per-layer(compressor=top-k(k=0.01))"] != rows["top-k(k=0.01)"]


def test_codecs_are_compared(tmp_path: Path) -> None:
    for kind in ("gaussian", "gradient"):
        arguments = ["--dim", "5000", "--kind", kind, "--only", "top-k", "--only", "qsgd"]
        arguments += ["--problem", "{kind: digits, batch_norm: false}"]
        files = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]
        result = run("bench", "codecs", *arguments, *files)
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["device"] == "cpu"
        assert report["dim"] == (5000 if kind == "gaussian" else 38_282)
        rows = {row["name"]: row for row in report["compressors"]}
        top = rows["top-k(k=0.01)"]
        assert 0 < top["relative_error"] < 1
        assert top["bits_per_value"] == pytest.approx(top["ideal_bits_per_value"], rel=0.2)
        assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--kind", "cauchy"], "--kind cauchy: known are ['gaussian'"),
        (["--only", "nothing"], "--only ['nothing']: no compressor's name has this in it"),
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
