"""What a session remembers: a past stays as it is, and is written as its rounds were."""

from pathlib import Path
from typing import Any

import pytest

from launch import Session
from mlmc_ray.ledger import Entry

CONFIG: dict[str, Any] = {
    "problem": "quadratic",
    "method": {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 3}},
    "optimizer": {"kind": "sgd", "step_size": 0.01},
    "engine": "inline",
    "observe_every": 2,
}


def test_a_past_stays_as_it_is_while_the_session_goes_on() -> None:
    with Session(CONFIG) as session:
        session.run(2)
        past = session.past()
        before = list(past.ledger), list(past.work), past.metrics, past.observations
        session.run(2)
        assert (list(past.ledger), list(past.work), past.metrics, past.observations) == before
        assert before[0] == list(session.ledger)[: len(before[0])]
        assert before[1] == list(session.work)[: len(before[1])]
        with pytest.raises(TypeError, match="frozen"):
            past.ledger.extend([Entry(0, 0, "uplink", 1, None)])


def test_a_past_can_be_gone_on_from_twice() -> None:
    with Session(CONFIG) as session:
        session.run(2)
        past = session.past()
        for _ in range(2):
            with Session(CONFIG, past=past) as branch:
                branch.run(1)
                assert (len(branch.ledger), len(branch.work)) == (24, 12)
                assert branch.metrics[-1]["gradients"] == 12


def test_a_past_is_written_as_its_rounds_were(tmp_path: Path) -> None:
    with Session(CONFIG, out=tmp_path / "first") as session:
        session.run(3)
        session.branch("again", out=tmp_path / "again").close()
    for name in ("ledger.csv", "timeline.csv", "observed.jsonl", "metrics.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
