"""Where compiled kernels are kept, in processes of their own: it is decided when one begins."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILE = """
import torch
from mlmc_ray.kernels import compiled, finite
assert finite.all_finite(torch.zeros(3)) and not finite.all_finite(torch.tensor([torch.nan]))
print(finite.__file__)
print(compiled.cache_directory())
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, in which nothing has been compiled."""
    place = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mlmc_ray", place / "mlmc_ray", ignore=ignored)
    return place


def compile_in(copy: Path, **environment: str) -> tuple[Path, str]:
    """Compile a kernel of the copy; return where it is kept, and what was logged."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**inherited, "PYTHONPATH": str(copy), **environment},
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    file, place = done.stdout.splitlines()
    assert file == str(copy / "mlmc_ray" / "kernels" / "finite.py")
    return Path(place), done.stderr


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("HOME", ".cache/mlmc-ray"),
        pytest.param("XDG_CACHE_HOME", "mlmc-ray", marks=pytest.mark.slow),
        pytest.param("NUMBA_CACHE_DIR", "", marks=pytest.mark.slow),
    ],
)
def test_kernels_are_kept_outside_of_the_package(
    copy: Path, tmp_path: Path, variable: str, below: str
) -> None:
    environment = {"HOME": str(tmp_path / "home"), variable: str(tmp_path / "given")}
    place, logged = compile_in(copy, **environment)
    assert (place, logged) == (tmp_path / "given" / below, "")
    assert list(place.rglob("*.nbi"))
    assert list(copy.rglob("*.nb[ic]")) == []


def test_a_home_that_cannot_be_written_is_replaced_aloud(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "home").touch()  # below which root cannot write either
    place, logged = compile_in(copy, HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))
    assert place == tmp_path / f"mlmc-ray-{os.getuid()}"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert list(place.rglob("*.nbi"))
    wanted = tmp_path / "home" / ".cache" / "mlmc-ray"
    assert logged == (
        f"{wanted} cannot be written: kernels are kept in {place}; set NUMBA_CACHE_DIR to a "
        "directory that can\n"
    )
    assert list(copy.rglob("*.nb[ic]")) == []


def test_files_that_others_may_have_written_are_not_used(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    place = tmp_path / f"mlmc-ray-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    found, logged = compile_in(copy, HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))
    assert str(found) == "None"
    assert "kernels are compiled again by every process" in logged
    assert list(place.rglob("*")) == []
    assert list(copy.rglob("*.nb[ic]")) == []
