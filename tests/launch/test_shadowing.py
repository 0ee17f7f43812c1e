"""What hides the packages: files of other programs, other checkouts, remains of installations."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.shadowing import shadowing_file

ROOT = Path(__file__).parents[2]
PACKAGES = ("mlmc_ray", "workers", "server", "launch")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Another checkout, as it is where a wheel is installed and the command runs in its source."""
    place = tmp_path / "my checkout"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, place / package, ignore=ignored)
    return place


def test_a_checkout_with_the_same_content_hides_nothing(checkout: Path) -> None:
    assert shadowing_file([checkout]) is None


@pytest.mark.parametrize("change", ["other", "more", "less"])
def test_a_checkout_with_other_content_is_named(checkout: Path, change: str) -> None:
    file = checkout / "server" / ("new.py" if change == "more" else "server.py")
    if change == "less":
        file.unlink()
    else:
        file.write_text("")
    assert shadowing_file([checkout]) == (
        f"{checkout} is a checkout of mlmc_ray, and in worker processes would be imported instead "
        f"of the installed one ({ROOT}), from which it differs in server/{file.name}: install it "
        f"with pip install -e '{checkout}', or run from another directory"
    )


def test_a_file_in_a_checkout_is_no_checkout(checkout: Path) -> None:
    project = checkout / "demo"
    project.mkdir()
    (project / "server.py").touch()
    message = shadowing_file([project])
    assert message is not None
    assert message.startswith(f"{project / 'server.py'} has the name of mlmc_ray's package")


def test_what_remains_of_an_installation_is_named(tmp_path: Path) -> None:
    remains = tmp_path / "site" / "mlmc_ray"
    (remains / "kernels" / "__pycache__").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "launch", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(remains.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 0:
        pytest.skip("the packages come before the remains on the path")
    assert done.stderr == (
        f"error: {remains} has no __init__.py, and hides mlmc_ray's package 'mlmc_ray' "
        f"({ROOT / 'mlmc_ray'}): it remains of an earlier installation; remove it: "
        f"rm -r {remains}\n"
    )
