"""Where results go."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.run_directory import RunDirectory, check_unused, results_directory, slug
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import Entry


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


def test_directories_without_results_are_removed_and_those_above_them() -> None:
    Path("kept").mkdir()
    with results_directory(Path("kept/a/b"), "run") as path:
        assert path.is_dir()
    assert list(Path("kept").iterdir()) == []
    with results_directory(Path("kept/a/b"), "run") as path:
        (path / "result").touch()
    assert Path("kept/a/b/result").exists()


def test_a_file_in_the_way_is_refused() -> None:
    Path("file").touch()
    for place, reason in (("file", "it is a file: give a directory"), ("file/x", "Not a dir")):
        with (
            pytest.raises(ConfigError, match=f"^{place}: cannot be written: {reason}"),
            results_directory(Path(place), "run"),
        ):
            pytest.fail("there is no directory")


def test_a_directory_without_permission_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuses)
    with (
        pytest.raises(ConfigError, match=r"^a/b: cannot be written: Permission denied$"),
        results_directory(Path("a/b"), "run"),
    ):
        pytest.fail("nothing can be written")
    assert not Path("a").exists()


def begun(path: Path, rounds: int) -> RunDirectory:
    directory = RunDirectory(path, {"rounds": rounds})
    for number in range(rounds + 1):
        directory.write_round({"round": number}, [], [], None)
    return directory


def test_a_run_without_rounds_makes_way_for_another(tmp_path: Path) -> None:
    first = begun(tmp_path, 0)
    first.write_changes([{"round": 0, "changes": {"seed": 1}}])
    first.close()
    begun(tmp_path, 1).close()
    assert (tmp_path / "config.yaml").read_text() == "rounds: 1\n"
    assert (tmp_path / "metrics.jsonl").read_text() == '{"round": 0}\n{"round": 1}\n'
    assert (tmp_path / "ledger.csv").read_text().count("\n") == 1
    assert not (tmp_path / "changes.jsonl").exists()
    with pytest.raises(ConfigError, match="already holds a run"):
        check_unused(tmp_path)


def test_a_model_without_rounds_stays(tmp_path: Path) -> None:
    directory = begun(tmp_path, 0)
    directory.write_model({})
    directory.close()
    with pytest.raises(ConfigError, match="already holds a run"):
        check_unused(tmp_path)


def test_a_configuration_that_is_no_run_stays(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine: 1")
    with pytest.raises(ConfigError, match="already holds a run"):
        check_unused(tmp_path)


def test_a_run_in_its_first_round_is_not_taken_over(tmp_path: Path) -> None:
    first = begun(tmp_path, 0)
    with pytest.raises(
        ConfigError, match="another run is being written there: wait for its end, or give"
    ):
        begun(tmp_path, 1)
    first.close()
    assert (tmp_path / "config.yaml").read_text() == "rounds: 0\n"


@pytest.mark.parametrize(
    "name", ["timeline.csv", "observed.jsonl", "metrics.jsonl", "versions.json", "config.yaml"]
)
def test_a_directory_that_could_not_be_begun_can_be_later(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error still at hand, and so all that its frames hold."""
    real = Path.open

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        file = real(path, *arguments, **options)
        if path.name == name:
            file.close()
            raise OSError(28, "No space left on device")
        return file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(ConfigError, match="No space left on device") as caught:
            begun(tmp_path, 0)
    begun(tmp_path, 1).close()
    assert caught.tb is not None
    assert (tmp_path / "config.yaml").read_text() == "rounds: 1\n"


def test_a_run_that_came_between_look_and_lock_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def other_is_faster(path: Path, **options: Any) -> None:
        real(path, **options)
        monkeypatch.undo()
        begun(path, 2).close()

    monkeypatch.setattr(Path, "mkdir", other_is_faster)
    with pytest.raises(ConfigError, match="already holds a run"):
        begun(tmp_path / "run", 1)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 3
    assert (tmp_path / "run" / "config.yaml").read_text() == "rounds: 2\n"


def test_frames_of_a_round_that_was_not_noted_stay(tmp_path: Path) -> None:
    begun(tmp_path, 0).close()
    with (tmp_path / "ledger.csv").open("a") as ledger:
        ledger.write("0,0,uplink,3,\n")
    for name in ("as it was", "without its configuration"):
        with pytest.raises(ConfigError, match="already holds a run"):
            begun(tmp_path, 1)
        (tmp_path / "config.yaml").unlink(missing_ok=True)
        assert (tmp_path / "ledger.csv").read_text().endswith("uplink,3,\n"), name


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


def test_an_interrupt_leaves_no_round_cut_in_two(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Entry]:
        yield entry
        raise KeyboardInterrupt

    entry = Entry(0, 0, "uplink", 40, 60)
    directory = RunDirectory(tmp_path / "run", {})
    directory.write_round({"round": 0}, [entry], [], None)
    with pytest.raises(KeyboardInterrupt):
        directory.write_round({"round": 1}, interrupted(), [], None)
    directory.close()
    assert (tmp_path / "run/ledger.csv").read_text().count("\n") == 2
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 1
