"""Commands about the library, and compressors of one's own."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from launch import Session
from launch.benched import BENCHED
from launch.catalogue import KINDS
from launch.cli import app
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import ConfigError, ProblemError

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


def test_every_compressor_is_measured() -> None:
    assert {type(compressor) for compressor in BENCHED} == set(KINDS[Compressor].values())


def test_codecs_are_compared(tmp_path: Path) -> None:
    for kind in ("gaussian", "gradient"):
        arguments = ["--dim", "5000", "--kind", kind, "--only", "top-k", "--only", "qsgd"]
        files = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]
        result = run("bench", "codecs", *arguments, *files)
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "r.json").read_text())
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
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], text: str) -> None:
    result = run("bench", "codecs", *arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


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
