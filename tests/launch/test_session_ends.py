"""A session that failed, was interrupted or is closed says so instead of going on wrongly."""

from pathlib import Path
from typing import Any

import pytest

from launch import Session
from launch.callbacks import Callback
from launch.engines.inline import InlineEngine
from mlmc_ray.errors import ConfigError, ProblemError, RoundError

CONFIG: dict[str, Any] = {
    "problem": "quadratic",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.01},
    "engine": "inline",
}


def test_an_interrupted_session_refuses_further_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(CONFIG) as session:
        session.run(2)

        def interrupt(*, observe: bool) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(session._engine, "round", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.run(1)
        with pytest.raises(RoundError, match=r"interrupted in round 2, .* open a new one"):
            session.run(1)
        assert session.round_index == 2


@pytest.mark.parametrize("name", ["run", "evaluate", "parameters", "model_state", "save"])
def test_a_closed_session_says_so(name: str, tmp_path: Path) -> None:
    session = Session(CONFIG, out=tmp_path / "run")
    session.close()
    with pytest.raises(RoundError, match="the session is closed: open a new one"):
        getattr(session, name)()


def test_measures_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(CONFIG) as session:
        monkeypatch.setattr(session._engine, "evaluate", lambda: {"accuracy": 1.0})
        with pytest.raises(ProblemError, match=r"returned \['accuracy'\], and at first \['gap', "):
            session.run()
        assert session.round_index == 10


def test_a_failed_first_evaluation_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: InlineEngine) -> dict[str, float]:
        raise ProblemError("no data")

    with monkeypatch.context() as patch:
        patch.setattr(InlineEngine, "evaluate", fail)
        with pytest.raises(ProblemError):
            Session(CONFIG, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with Session(CONFIG, out=tmp_path / "run"):
        pass


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with Session(CONFIG, out=tmp_path / "run") as session:
        monkeypatch.setattr("launch.run_directory.json.dumps", fail)
        with pytest.raises(ConfigError, match="run: cannot be written: No space left on device"):
            session.run()


def test_an_interrupted_evaluation_keeps_its_round(monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(CONFIG) as session:

        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(session._engine, "evaluate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.run(1)
        assert session.round_index == 1
        assert {entry.round_index for entry in session.ledger} == {0}
        assert session.metrics[-1]["uplink_bytes"] == session.ledger.frame_bytes("uplink")


def test_a_callback_that_is_interrupted_at_the_end_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hangs(Callback):
        def on_end(self, session: Session, error: BaseException | None) -> None:
            raise KeyboardInterrupt

    session = Session(CONFIG, out=tmp_path / "run", callbacks=[Hangs()])
    closed = []
    monkeypatch.setattr(session._engine, "close", lambda: closed.append(True))
    with pytest.raises(KeyboardInterrupt):
        session.close()
    assert closed
    with pytest.raises(RoundError, match="closed"):
        session.run(1)
