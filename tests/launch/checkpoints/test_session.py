"""Sessions that write checkpoints and go on from them: what is allowed, said and counted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from launch import Session
from launch.checkpoints.repeated import put_aside
from launch.checkpoints.resuming import resumed
from launch.checkpoints.shelf import Shelf
from launch.checkpoints.store import store_at
from launch.cli import app
from launch.run_directory import RunDirectory, held
from launch.versions import versions
from mlmc_ray.errors import CheckpointError, ConfigError, RoundError
from mlmc_ray.ledger import Ledger
from tests.launch.checkpoints.interrupted import (
    assert_resumes,
    assert_same_files,
    assert_same_run,
    lose,
    lose_session,
    metrics_in,
)

CONFIG: dict[str, Any] = {
    "name": "small",
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 8},
    "workers": 2,
    "method": {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 2}},
    "optimizer": {"kind": "sgd", "step_size": 0.01, "momentum": 0.5},
    "engine": "inline",
    "rounds": 9,
    "observe_every": 2,
    "checkpoints": {"every": 4},
}
ALONE = {**CONFIG, "checkpoints": None}


def files_of(path: Path) -> list[str]:
    return sorted(p.name for p in (path / "checkpoints").glob("round-*"))


def test_checkpoints_are_written_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    with Session(CONFIG, out=tmp_path / "run") as session:
        for done, rounds in ((3, []), (4, [4]), (7, [4]), (8, [4, 8]), (9, [8, 9])):
            session.run(done - session.round_index)
            names = files_of(tmp_path / "run") if rounds else []
            assert names == [f"round-{n:08}.checkpoint" for n in rounds]


def test_a_session_writes_one_when_asked(tmp_path: Path) -> None:
    with Session(ALONE, out=tmp_path / "run") as session:
        session.run(3)
        assert session.checkpoint() == "round-00000003.checkpoint"
        session.run()
        with Session.resume(tmp_path / "run" / "checkpoints") as again:  # not in the directory
            assert again.directory is None
            again.run()
            assert torch.equal(again.parameters(), session.parameters())
    with Session(ALONE) as session:
        with pytest.raises(ConfigError, match="no place for a checkpoint: give Session"):
            session.checkpoint()
        session.close()
        with pytest.raises(RoundError, match="is closed"):
            session.checkpoint()


def test_frames_of_lost_rounds_are_counted_apart(tmp_path: Path) -> None:
    session = assert_resumes(CONFIG, tmp_path, after=7)
    sent = [e for e in session.ledger if e.round_index == 6]
    assert list(session.repeated) == sent
    assert session.ledger.frame_bytes("uplink", round_index=6) == session.repeated.frame_bytes(
        "uplink"
    )
    lines = (tmp_path / "lost" / "repeated.csv").read_text().splitlines()
    assert len(lines) == 1 + len(sent)
    assert not (tmp_path / "whole" / "repeated.csv").exists()


def test_a_run_that_is_lost_again_and_again_adds_up(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 7)
    for after in (6, 5, 8):
        lose_session(Session.resume(tmp_path / "run"), after)
    with Session.resume(tmp_path / "run") as session:
        assert session.round_index == 8
        assert [entry.round_index for entry in session.repeated][::4] == [4, 5, 6, 4, 5, 4]
        session.run()
    with Session.resume(tmp_path / "run" / "checkpoints", out=tmp_path / "new") as session:
        assert [entry.round_index for entry in session.repeated][::4] == [4, 5, 6, 4, 5, 4]
    rows = [(tmp_path / name / "repeated.csv").read_bytes() for name in ("run", "new")]
    assert rows[0] == rows[1]
    with Session(CONFIG, out=tmp_path / "whole") as expected:
        expected.run()
    assert_same_files(tmp_path / "run", tmp_path / "whole")


def test_a_line_that_broke_off_is_cut_off(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 7)
    for name in ("ledger.csv", "metrics.jsonl", "timeline.csv", "observed.jsonl"):
        with (tmp_path / "run" / name).open("a") as file:
            file.write("7,0,upl")
    with Session(CONFIG, out=tmp_path / "whole") as expected:
        expected.run()
    with Session.resume(tmp_path / "run") as session:
        assert [entry.round_index for entry in session.repeated][::4] == [4, 5, 6]
        session.run()
    assert_same_files(tmp_path / "run", tmp_path / "whole")


KILLED = """
import os, sys
from launch import Session
from launch.callbacks import Callback

class Kill(Callback):
    def on_round(self, session, metrics, result):
        if metrics["round"] == 7:
            os._exit(9)

Session(sys.argv[1], out=sys.argv[2], callbacks=Kill()).run()
"""


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    arguments = [str(tmp_path / name) for name in ("config.yaml", "run")]
    command = [sys.executable, "-c", KILLED, *arguments]
    assert subprocess.run(command, cwd=Path(__file__).parents[3], check=False).returncode == 9
    with Session(CONFIG, out=tmp_path / "whole") as expected:
        expected.run()
        with Session.resume(tmp_path / "run") as session:
            assert session.round_index == 4
            session.run()
            assert_same_run(session, expected)
    assert_same_files(tmp_path / "run", tmp_path / "whole")


def test_frames_are_counted_once_if_going_on_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(CONFIG, tmp_path / "run", 7)
    lose_session(Session.resume(tmp_path / "run"), 7)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    for place in ("os.fsync", "settle", "RunDirectory.write_past"):  # before, or after it
        with monkeypatch.context() as patch:
            patch.setattr(f"launch.run_directory.{place}", cut_off)
            with pytest.raises(KeyboardInterrupt):
                Session.resume(tmp_path / "run")
    with Session.resume(tmp_path / "run") as session:
        assert [entry.round_index for entry in session.repeated][::4] == [4, 5, 6, 4, 5, 6]
    assert [path.name for path in (tmp_path / "run").glob("repeated*")] == ["repeated.csv"]


def test_frames_that_were_put_aside_and_not_cut_off_are_counted_once(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 7)
    for _ in range(2):
        repeated = put_aside(tmp_path / "run", 4, Ledger(), print)
        assert [entry.round_index for entry in repeated][::4] == [4, 5, 6]


@pytest.mark.parametrize("row", ["7,0,upl", "6,0,sideways,3,", "6,x,uplink,3,", "6,0,uplink,-3,"])
@pytest.mark.parametrize("name", ["ledger.csv", "repeated.csv"])
def test_a_malformed_row_ends_what_is_read(name: str, row: str, tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 7)
    lose_session(Session.resume(tmp_path / "run"), 6)
    with (tmp_path / "run" / name).open("a") as file:
        file.write(f"{row}\n6,0,uplink,1,\n")
    notes: list[str] = []
    with Session.resume(tmp_path / "run", on_note=notes.append) as session:
        assert [entry.round_index for entry in session.repeated][::4] == [4, 5, 6, 4, 5]
    assert f"{name}: row" in notes[1]
    assert "is malformed, and no more are read" in notes[1]


# What may differ.


def test_more_rounds_go_on(tmp_path: Path) -> None:
    with Session(CONFIG, out=tmp_path / "run") as session:
        session.run()
    before = (tmp_path / "run" / "config.yaml").read_text()
    with Session({**ALONE, "rounds": 12}) as expected:
        expected.run(9)
        expected.run(3)
        with Session.resume(tmp_path / "run", ["rounds=12"]) as session:
            session.run()
            assert session.round_index == 12
            assert torch.equal(session.parameters(), expected.parameters())
            assert session.ledger == expected.ledger
    assert (tmp_path / "run" / "config.yaml").read_text() == before
    changed = (tmp_path / "run" / "changes.jsonl").read_text()
    assert changed == '{"round": 9, "changes": {"rounds": 12}}\n'
    with Session.resume(tmp_path / "run") as session:
        assert (session.round_index, session.config.rounds) == (12, 12)
    with pytest.raises(ConfigError, match="rounds is 3, and the checkpoint is of round 12"):
        Session.resume(tmp_path / "run", ["rounds=3"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.step_size=2"], "checkpoint: optimizer.step_size is 2.0, was 0.01: leave"),
        (
            ["seed=1", "method.compressor.k=3"],
            "method.compressor.k is 3, was 2; seed is 1, was 0: leave that as before",
        ),
        (["workers=3"], "workers is 3, was 2"),
        (["method={kind: sgd}"], "method.kind is 'sgd', was 'ef21-sgdm'"),
        (["name=other"], "name is 'other', was 'small'"),
        (["checkpoints.storage=/else"], "checkpoints.storage is '/else', was None"),
    ],
)
def test_another_configuration_is_refused(overrides: list[str], said: str, tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 5)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    with pytest.raises(ConfigError) as caught:
        Session.resume(tmp_path / "run", overrides)
    assert said in str(caught.value)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    with Session.resume(tmp_path / "run"):
        pass


def test_how_it_runs_may_differ(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 5)
    given = {**CONFIG, "round_timeout_s": 5, "checkpoints": {"every": 3, "keep": 1}}
    with Session.resume(tmp_path / "run", config=given) as session:
        session.run()
    assert files_of(tmp_path / "run") == ["round-00000009.checkpoint"]
    assert (tmp_path / "run" / "changes.jsonl").read_text().count("round_timeout_s") == 1


def test_a_step_size_by_theory_stays(tmp_path: Path) -> None:
    config = {
        **CONFIG,
        "method": {"kind": "diana", "compressor": {"kind": "rand-k", "k": 2}},
        "optimizer": {"kind": "sgd", "step_size": "theory"},
    }
    assert_resumes(config, tmp_path)
    with Session.resume(tmp_path / "lost", config={**config, "checkpoints": None}) as session:
        assert session.round_index == 9


def test_changes_on_the_way_are_gone_on_with(tmp_path: Path) -> None:
    with Session(CONFIG, out=tmp_path / "run") as session:
        session.run(3)
        session.change(["optimizer.step_size=0.02"])
        session.run(2)
        session.change(["optimizer.step_size=0.03"])
        session.run(1)
    assert files_of(tmp_path / "run") == [f"round-{n:08}.checkpoint" for n in (4, 5)]
    with Session(ALONE) as expected:
        expected.run(3)
        expected.change(["optimizer.step_size=0.02"])
        expected.run(2)
        expected.change(["optimizer.step_size=0.03"])
        expected.run()
        with Session.resume(tmp_path / "run") as session:
            session.run()
            assert torch.equal(session.parameters(), expected.parameters())
    changed = (tmp_path / "run" / "changes.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in changed] == [3, 5]


def test_a_change_after_the_checkpoint_is_dropped_and_told(tmp_path: Path) -> None:
    with Session(ALONE, out=tmp_path / "run") as session:
        session.run(1)
        session.change(["optimizer.step_size=0.02"])
        session.run(2)
        session.checkpoint()
        session.change(["round_timeout_s=7"])
    notes: list[str] = []
    with Session.resume(tmp_path / "run", on_note=notes.append) as again:
        assert again.config.round_timeout_s != 7
    dropped, _ = notes
    assert dropped == (
        'a change after the checkpoint is dropped; make it again: {"round": 3, "changes": '
        '{"round_timeout_s": 7.0}}'
    )
    with Session.resume(tmp_path / "run", on_note=notes.append):
        assert len(notes) == 3


def test_other_versions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(CONFIG, tmp_path / "run", 5)
    notes: list[str] = []
    new = {**versions(), "torch": "9.9"}
    monkeypatch.setattr("launch.checkpoints.resuming.versions", lambda: new)
    with Session.resume(tmp_path / "run", on_note=notes.append):
        pass
    assert notes[0] == (
        "the checkpoint was written with other versions, and bits may differ: "
        f"torch was {versions()['torch']!r}, and is '9.9'"
    )


# Places.


def test_a_storage_holds_all_that_is_needed(tmp_path: Path) -> None:
    storage = {"every": 2, "storage": "memory://bucket/runs/"}
    lose({**CONFIG, "checkpoints": storage}, tmp_path / "run-1", 7)
    assert not (tmp_path / "run-1" / "checkpoints").exists()
    with Session(CONFIG, out=tmp_path / "whole") as expected:
        expected.run()
    url = "memory://bucket/runs/run-1"
    with Session.resume(url, out=tmp_path / "new") as session:  # another machine
        session.run(1)
    assert metrics_in(tmp_path / "new")[:7] == metrics_in(tmp_path / "whole")[:7]
    assert len(metrics_in(tmp_path / "new")) == 8
    with Session.resume(tmp_path / "run-1") as session:  # which finds them
        assert session.round_index == 6
        session.run()
    assert_same_files(tmp_path / "run-1", tmp_path / "whole")
    with pytest.raises(ConfigError, match="memory://bucket/runs/run-1 already holds checkpoints"):
        Session({**CONFIG, "checkpoints": storage}, out=tmp_path / "other" / "run-1")
    for name in (store := store_at(url)).names():
        store.delete(name)


def test_a_run_that_went_on_elsewhere_goes_on_there(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 5)
    lose_session(Session.resume(tmp_path / "run" / "checkpoints", out=tmp_path / "new"), 8)
    place = (tmp_path / "new" / "checkpoints.at").read_text()
    assert place == f"{tmp_path / 'run' / 'checkpoints'}\n"
    with Session.resume(tmp_path / "new") as session:
        assert session.round_index == 8
        session.run()
    with Session(CONFIG, out=tmp_path / "whole") as expected:
        expected.run()
    assert_same_files(tmp_path / "new", tmp_path / "whole")
    assert not (tmp_path / "whole" / "checkpoints.at").exists()


def test_a_renamed_directory_finds_its_storage(tmp_path: Path) -> None:
    storage = {"every": 2, "storage": str(tmp_path / "storage")}
    lose({**CONFIG, "checkpoints": storage}, tmp_path / "run", 5)
    (tmp_path / "run").rename(tmp_path / "renamed")
    with Session.resume(tmp_path / "renamed") as session:
        assert session.round_index == 4


def test_a_session_that_was_gone_on_with_writes_no_more_checkpoints(tmp_path: Path) -> None:
    storage = {"every": 1, "storage": str(tmp_path / "storage")}
    notes: list[str] = []
    with Session({**CONFIG, "checkpoints": storage}, on_note=notes.append) as first:
        first.run(3)
        with Session.resume(tmp_path / "storage" / "small") as second:
            second.run(2)
            first.run(1)
            assert [note.partition(": ")[2][:14] for note in notes] == ["no checkpoint:"]
            assert "another run goes on here" in notes[0]
            second.run(1)
    with Session.resume(tmp_path / "storage" / "small") as again:
        assert again.round_index == 6


def test_a_checkpoint_is_read_while_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(CONFIG, tmp_path / "run", 5)
    newest = Shelf.newest

    def locked(shelf: Shelf) -> Any:
        with pytest.raises(ConfigError, match="is being written there"), held(tmp_path / "run"):
            pass
        return newest(shelf)

    monkeypatch.setattr(Shelf, "newest", locked)
    past = resumed(tmp_path / "run", None, [], None)
    with Session.resume(tmp_path / "run") as between:
        between.run()
    with pytest.raises(CheckpointError, match="in the meantime: resume again"):
        Session(past.config, out=past.directory, past=past)


def test_a_run_directory_is_gone_on_with_in_itself(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 5)
    with pytest.raises(ConfigError, match="is a run directory, and the run goes on there"):
        Session.resume(tmp_path / "run", out=tmp_path / "else")
    with pytest.raises(ConfigError, match="already holds a run"):
        Session.resume(tmp_path / "run" / "checkpoints", out=tmp_path / "run")
    with (
        Session.resume(tmp_path / "run"),
        pytest.raises(ConfigError, match="another run is being written there"),
    ):
        Session.resume(tmp_path / "run")


def test_runs_without_checkpoints_say_so(tmp_path: Path) -> None:
    lose(CONFIG, tmp_path / "run", 3)
    with pytest.raises(CheckpointError, match="no checkpoint to go on from: none was written"):
        Session.resume(tmp_path / "run")
    with pytest.raises(CheckpointError, match="nowhere is no directory: give that of a run"):
        Session.resume(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("checkpoints", "said"),
    [
        ({"every": 0}, "checkpoints.every: got 0: Input should be greater than or equal to 1"),
        ({"every": 1, "keep": 0}, "checkpoints.keep: got 0"),
        ({"keep": 1}, "checkpoints: missing keys ['every']"),
        ({"every": 1, "where": "x"}, "checkpoints: unknown keys ['where']"),
        ({"every": 1, "storage": "here"}, "storage is 'here': give an absolute path, or a URL"),
        ({"every": 1}, "the session has no run directory: give Session(..., out=...)"),
        ({"every": 1, "storage": "no://x"}, "checkpoints at no://x/small: Protocol not known: no"),
    ],
)
def test_settings_that_cannot_be_are_refused(checkpoints: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Session({**CONFIG, "checkpoints": checkpoints})
    assert said in str(caught.value)


def test_a_session_that_is_changed_keeps_its_storage(tmp_path: Path) -> None:
    with Session(ALONE) as session:
        with pytest.raises(ConfigError, match="the session has no run directory"):
            session.change(checkpoints={"every": 2})
        with pytest.raises(ConfigError, match=r"storage is '/x', was None: a run keeps its"):
            session.change(checkpoints={"every": 2, "storage": "/x"})
    with Session(CONFIG, out=tmp_path / "run") as session:
        session.change(["checkpoints.every=1"])
        session.run(1)
        expected = ["round-00000000.checkpoint", "round-00000001.checkpoint"]  # one at the change
        assert files_of(tmp_path / "run") == expected


# What is said.


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise CheckpointError("the disk is full")

    notes: list[str] = []
    monkeypatch.setattr(Shelf, "write", full)
    with Session(CONFIG, out=tmp_path / "run", on_note=notes.append) as session:
        session.run()
        with pytest.raises(CheckpointError, match="the disk is full"):
            session.checkpoint()
    assert notes == [f"round {n}: no checkpoint: the disk is full" for n in (4, 8, 9)]


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(tmp_path: Path) -> None:
    lose({**CONFIG, "checkpoints": {"every": 2}}, tmp_path / "run", 7)
    path = tmp_path / "run" / "checkpoints" / "round-00000006.checkpoint"
    path.write_bytes(path.read_bytes()[:-1])
    notes: list[str] = []
    with Session(ALONE) as expected:
        expected.run()
        with Session.resume(tmp_path / "run", on_note=notes.append) as session:
            assert session.round_index == 4
            session.run()
            assert torch.equal(session.parameters(), expected.parameters())
    told, goes_on = notes
    assert told.startswith("checkpoint round-00000006.checkpoint cannot be used: ")
    assert told.endswith("is damaged or cut short: its checksum is that of other bytes")
    assert goes_on == f"goes on after round 4, from {path.parent}"


def test_a_directory_that_cannot_be_cut_off_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(CONFIG, tmp_path / "run", 7)

    def full(*_: object) -> None:
        raise ConfigError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_past", full)
        with pytest.raises(ConfigError, match="no space left"):
            Session.resume(tmp_path / "run")
    with Session(CONFIG, out=tmp_path / "whole") as expected:
        expected.run()
    with Session.resume(tmp_path / "run") as session:
        assert [entry.round_index for entry in session.repeated][::4] == [4, 5, 6]
        session.run()
    assert_same_files(tmp_path / "run", tmp_path / "whole")


# The command.


def command(*arguments: "str | Path") -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_the_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lose(CONFIG, tmp_path / "run", 7)
    result = command("--resume", "run", "--set", "rounds=10")
    assert result.exit_code == 0, result.output
    assert "small: goes on after round 4, from run/checkpoints" in result.output
    assert "results: run" in result.output
    with Session({**CONFIG, "rounds": 10}, out=tmp_path / "whole") as expected:
        expected.run()
    assert_same_files(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "run" / "model.pt").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())[0]["rounds"] == 10
    config = tmp_path / "whole" / "config.yaml"
    assert command(config, "--resume", "run").exit_code == 0
    for arguments, said in (
        ((), "give CONFIG, the YAML file of a run, or --resume RUN"),
        (("--resume", "run", "--workers", "5"), "workers is 5, was 2"),
        (("--resume", "run", "--out", "new"), "run is a run directory, and the run goes on there"),
        (("--resume", "none"), "none is no directory"),
    ):
        refused = command(*arguments)
        assert refused.exit_code in (1, 2)
        assert refused.stderr.startswith("error: ")
        assert refused.stderr.count("\n") == 1
        assert said in refused.stderr
    again = command("--resume", "run/checkpoints")
    assert again.exit_code == 0
    (new,) = (tmp_path / "runs").iterdir()
    assert metrics_in(new) == metrics_in(tmp_path / "whole")
