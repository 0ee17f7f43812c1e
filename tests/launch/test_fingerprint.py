"""What results were made with: which files count, and what is done when one is edited."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch import Session
from launch.configuration.run_config import RunConfig, load_config
from launch.many.fingerprint import made_with
from launch.scaling.plan import plan_scale
from launch.scaling.scale import scale_into
from launch.sweeps.grid import Axis
from launch.sweeps.plan import Sweep, SweepOptions, plan_sweep
from launch.sweeps.sweep import sweep_into
from mlmc_ray.errors import ConfigError

QUIET = Console(quiet=True)
TASK = """
from tests.tasks import Regression


class Task(Regression):
    pass
"""


class Own:
    """A task of one's own, whose files are written and imported anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"task_{path.name}"
        self.helper = f"helper_{path.name}"

    def write(self, task: str = "", **files: str) -> None:
        """Write the task, and other files by the names of their modules."""
        written = {self.name: TASK + task, **files}
        for name, text in written.items():
            place = self.path.joinpath(*name.split(".")).with_suffix(".py")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for name in [name for name in sys.modules if self.path.name in name]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def source(self, problem: str | None = None) -> dict[str, Any]:
        return {
            "problem": f"{problem or self.name}.Task",
            "search_paths": [str(self.path)],
            "method": "sgd",
            "optimizer": {"kind": "sgd", "step_size": 0.001},
            "workers": 2,
            "rounds": 2,
            "evaluate_every": 1,
            "engine": "inline",
        }

    def config(self, problem: str | None = None) -> RunConfig:
        config = load_config(self.source(problem))
        config.problem.load()
        return config

    def sweep(self) -> Sweep:
        axis = Axis(key="optimizer.step_size", values=(0.001, 0.002))
        return plan_sweep(self.source(), SweepOptions(axes=(axis,)))

    def run(self, kind: str, out: Path, console: Console) -> None:
        """Run a sweep, or a scaling run."""
        if kind == "sweep":
            sweep_into(self.sweep(), out, console)
        else:
            scale_into(plan_scale(self.source(), (1, 2), draws=2), out, console)

    def files(self, problem: str | None = None) -> dict[str, str]:
        """Return digests of the files below this task's directory."""
        found = made_with([self.config(problem)])
        return {name: value for name, value in found.items() if self.path.name in name}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a task extends it
    return Own(tmp_path)


def test_results_of_edited_files_are_refused(own: Own) -> None:
    out, imports = own.path / "out", f"from {own.helper} import SCALE\n"
    own.write(imports, **{own.helper: "SCALE = 1"})
    sweep_into(own.sweep(), out, QUIET)
    before = (out / "results.json").read_text()
    own.write(imports, **{own.helper: "SCALE = 1"})
    sweep_into(own.sweep(), out, QUIET)
    own.write(imports + "# edited", **{own.helper: "SCALE = 1"})
    with pytest.raises(ConfigError, match=r"\(task_\w+\.py was edited\).*another --out"):
        sweep_into(own.sweep(), out, QUIET)
    own.write(imports, **{own.helper: "SCALE = 2"})
    with pytest.raises(ConfigError, match=r"\(helper_\w+\.py was edited\)"):
        sweep_into(own.sweep(), out, QUIET)
    assert (out / "results.json").read_text() == before


@pytest.mark.parametrize("kind", ["sweep", "scale"])
def test_a_file_that_is_edited_during_the_runs_ends_them(own: Own, kind: str) -> None:
    class Editing(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            own.write("# edited")
            super().print(*objects, **options)

    own.write()
    out = own.path / "out"
    message = r"task_\w+\.py was edited while the runs went on, .* another --out, or restore"
    with pytest.raises(ConfigError, match=message):
        own.run(kind, out, Editing(quiet=True))
    assert (out / "results.json").read_text().count('"seconds"') == 1
    own.write()
    own.run(kind, out, QUIET)


@pytest.mark.parametrize("relative", [".helper", "..helper"])
def test_a_relative_import_that_fails_does_not_count(own: Own, relative: str) -> None:
    """As in a task that is also used as part of a package."""
    own.write(f"try:\n    from {relative} import C\nexcept ImportError:\n    C = 1\n")
    assert list(own.files()) == [f"{own.name}.py"]


def test_a_module_that_only_a_function_imports_counts(own: Own) -> None:
    inside = f"\n    def loss(self, *given):\n        import {own.helper}\n"
    own.write(inside + "        return super().loss(*given)\n", **{own.helper: ""})
    before = own.files()
    assert set(before) == {f"{own.name}.py", f"{own.helper}.py"}
    with Session(own.source()) as session:
        session.run()
    assert own.helper in sys.modules
    assert own.files() == before


def test_files_of_packages_are_found_without_importing_them(own: Own) -> None:
    package = f"package_{own.path.name}"
    own.write(
        **{
            f"{package}.__init__": "",
            f"{package}.tasks": TASK + "def use():\n    from .parts import one\n",
            f"{package}.parts.one": "from ..other import Nothing",  # a namespace package
            f"{package}.other": "",
        }
    )
    assert set(own.files(f"{package}.tasks")) == {
        f"{package}/{name}.py" for name in ("__init__", "tasks", "parts/one", "other")
    }
    assert f"{package}.parts" not in sys.modules


def test_links_to_files_of_one_name_are_told_apart(own: Own) -> None:
    names = [f"{side}_{own.path.name}" for side in ("one", "two")]
    own.write("".join(f"import {name}\n" for name in names))
    for number, name in enumerate(names):
        target = own.path / str(number) / "helper.py"
        target.parent.mkdir()
        target.write_text("")
        (own.path / f"{name}.py").symlink_to(target)
    before = own.files()
    assert set(before) == {f"{name}.py" for name in (own.name, *names)}
    (own.path / "0" / "helper.py").write_text("# edited")
    now = own.files()
    assert [name for name in before if before[name] != now[name]] == [f"{names[0]}.py"]


def test_where_a_link_leads_does_not_count(own: Own) -> None:
    """A volume of Kubernetes links to a directory whose name changes at each mount."""
    own.write(f"import {own.helper}")
    found = []
    for mount in ("first", "second"):
        (own.path / mount).mkdir()
        (own.path / mount / "text").with_suffix(".py").write_text("C = 1")
        link = own.path / f"{own.helper}.py"
        link.unlink(missing_ok=True)
        link.symlink_to(own.path / mount / "text.py")
        found.append(own.files())
    assert f"{own.helper}.py" in found[0]
    assert found[0] == found[1]
