"""docs/observability.md is true: its blocks run and print what it says; so do the examples."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from launch.callbacks import Callback
from launch.callbacks.ray_metrics import INSTRUMENTS
from launch.configuration.catalogue import KINDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
TRACKED = re.findall(r"```python tracking\n(.*?)```", TEXT, flags=re.DOTALL)
EXAMPLES = sorted((ROOT / "examples").glob("*_run.py"))
PACKAGES = {"TensorBoard": "tensorboard", "MLflow": "sqlalchemy", "WandB": "wandb"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory that has the configurations."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)


def need(text: str) -> None:
    for name, package in PACKAGES.items():
        if name in text:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pytest.importorskip(package, reason="needs the extra tracking")


@pytest.mark.parametrize("block", TRACKED)
@pytest.mark.filterwarnings("ignore")
def test_blocks_that_need_a_package_run(block: str) -> None:
    need(block)
    exec(compile(block, "observability.md", "exec"), {})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_examples_run(path: Path, tmp_path: Path) -> None:
    need(path.read_text(encoding="utf-8"))
    subprocess.run([sys.executable, str(path)], check=True, cwd=tmp_path)
    places = {"tensorboard_run": "runs", "mlflow_run": "mlflow.db", "wandb_run": "wandb"}
    assert (tmp_path / places[path.stem]).exists()


def test_every_kind_and_every_metric_is_named() -> None:
    assert [kind for kind in KINDS[Callback] if f"`{kind}`" not in TEXT] == []
    assert [name for name in INSTRUMENTS if f"`ray_{name}" not in TEXT] == []
