"""On Ray a run that is resumed ends as in one process a run that was not lost."""

from pathlib import Path
from typing import Any

import pytest

from launch import Session
from tests.launch.checkpoints.interrupted import (
    EVERY,
    assert_same_files,
    assert_same_run,
    lose,
)
from tests.launch.test_downlinks import COMPRESSED, SPARSE, config_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SOME = {"kind": "partial-participation", "participants": 2, "method": SPARSE}
ADAMW = {"kind": "adamw", "step_size": 0.01}
CASES: dict[str, dict[str, Any]] = {
    "relay": {"method": SOME, "downlink": "relay", "servers": 2},
    "compressed": {"method": "ef21-sgdm", "downlink": COMPRESSED, "optimizer": ADAMW},
    "delta": {"method": SPARSE, "downlink": "delta", "lost_on": "inline"},
}


SLOW = ("relay", "compressed")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES],
)
def test_it_ends_as_in_one_process(name: str, tmp_path: Path) -> None:
    case = dict(CASES[name])
    method, lost_on = case.pop("method"), case.pop("lost_on", "ray")
    if method == "ef21-sgdm":
        method = {**SPARSE, "kind": method}
    config = config_of(method, **case, actors=2, buffers_every=5, observe_every=3)
    config |= {"rounds": 9, "evaluate_every": 4, "checkpoints": EVERY}
    lose({**config, "engine": lost_on}, tmp_path / "lost", 7)
    with Session({**config, "engine": "inline"}, out=tmp_path / "whole") as expected:
        expected.run()
        with Session.resume(tmp_path / "lost", ["engine=ray", "actors=3"]) as session:
            assert session.round_index == 6
            session.run()
            assert_same_run(session, expected)
    assert_same_files(tmp_path / "lost", tmp_path / "whole")
