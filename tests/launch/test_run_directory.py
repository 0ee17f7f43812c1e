"""Where results go."""

from pathlib import Path

import pytest

from launch.run_directory import results_directory, slug
from mlmc_ray.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_runs_of_the_same_second_have_different_directories() -> None:
    with results_directory(None, "A run") as first, results_directory(None, "A run") as second:
        assert first != second
        for path in (first, second):
            assert path.parent == Path("runs")
            assert path.name.startswith("a-run-")
            (path / "result").touch()
    assert first.is_dir()
    assert second.is_dir()


def test_a_link_to_nowhere_is_refused() -> None:
    Path("runs").symlink_to("nowhere")
    with (
        pytest.raises(ConfigError, match=r"^runs: cannot be written: File exists"),
        results_directory(None, "run"),
    ):
        pytest.fail("there is no directory")


def test_a_directory_without_results_is_removed() -> None:
    with pytest.raises(ZeroDivisionError), results_directory(None, "run"):
        raise ZeroDivisionError
    assert not Path("runs").exists()


def test_a_directory_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with results_directory(own, "run") as path:
        assert path == own
    assert own.is_dir()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("MLMC s-Top-k 1%", "mlmc-s-top-k-1"),
        ("", "run"),
        ("../..", "run"),
        ("ä" * 300, "ä" * 60),
        ("\U00020000" * 70, "\U00020000" * 30),
    ],
)
def test_names_become_paths(name: str, path: str) -> None:
    assert slug(name) == path
