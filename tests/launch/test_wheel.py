"""The wheel holds every file of the packages, and works without the rest of the repository."""

import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("mlmc_ray", "workers", "server", "launch")
IMPORT_ALL = """
import importlib, sys
place = sys.argv[1]
sys.path.insert(0, place)
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    assert module.__file__.startswith(place), (name, module.__file__)
from launch.starter import start
from pathlib import Path
start(Path("project"))
print(len(sys.argv[2:]))
"""


def ran(*command: "str | Path", where: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Every file of the packages that is not ignored, committed or not."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, which knows the files that there should be")
    listed = ran("git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES)
    return sorted(name for name in listed.splitlines() if (ROOT / name).exists())


@pytest.fixture(scope="module")
def wheel(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel, built from a copy, since building leaves files behind."""
    missing = [name for name in ("pip", "setuptools") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing} not installed: without them no wheel is built offline")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*files, "pyproject.toml", "README.md", "LICENSE"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel")
    ran(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", out, copy)
    (built,) = out.glob("*.whl")
    return zipfile.Path(built)


def test_every_file_of_the_packages_is_in_the_wheel(files: list[str], wheel: zipfile.Path) -> None:
    held = [name for name in wheel.root.namelist() if not name.endswith("/")]
    assert sorted(name for name in held if ".dist-info/" not in name) == files


def test_every_module_of_the_wheel_can_be_imported_from_it(
    wheel: zipfile.Path, tmp_path: Path
) -> None:
    place = tmp_path / "unpacked"
    wheel.root.extractall(place)
    modules = [
        ".".join(path.relative_to(place).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(place.rglob("*.py"))
        if (path.parent / "__init__.py").exists() and path.stem != "__main__"
    ]
    assert {name.partition(".")[0] for name in modules} == set(PACKAGES)
    printed = ran(sys.executable, "-I", "-c", IMPORT_ALL, place, *modules, where=tmp_path)
    assert printed == f"{len(modules)}\n"
    assert (tmp_path / "project" / "config.yaml").exists()
