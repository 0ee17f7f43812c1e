"""A session that failed, was interrupted or is closed says so instead of going on wrongly."""

from typing import Any

import pytest

from launch import Session
from mlmc_ray.errors import RoundError

CONFIG: dict[str, Any] = {
    "problem": "quadratic",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.01},
    "engine": "inline",
}


def test_an_interrupted_session_refuses_further_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(CONFIG) as session:
        session.run(2)

        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(session._engine, "round", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.run(1)
        with pytest.raises(RoundError, match="interrupted in round 2: open a new one"):
            session.run(1)
        assert session.round_index == 2


def test_a_closed_session_refuses_further_rounds() -> None:
    session = Session(CONFIG)
    session.close()
    with pytest.raises(RoundError, match="the session is closed: open a new one"):
        session.run(1)


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
