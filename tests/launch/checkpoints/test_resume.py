"""A run that is resumed ends as it would have ended: every method, downlink, optimizer."""

from pathlib import Path
from typing import Any

import pytest

from launch.configuration.catalogue import KINDS
from mlmc_ray.methods import Method
from tests.launch.checkpoints.interrupted import assert_resumes
from tests.launch.test_downlinks import (
    ADMITTED,
    COMPRESSED,
    EXACT,
    MOVING,
    OPTIMIZERS,
    SPARSE,
    TOP_K,
    config_of,
    settings_of,
)
from tests.launch.test_ray_methods import METHODS
from tests.launch.test_session_changes import ASYNCHRONOUS, CLOCK

SHORT = {"rounds": 7, "evaluate_every": 2, "buffers_every": 2, "observe_every": 3}
SOME = {"kind": "partial-participation", "participants": 2, "method": SPARSE}
# One each of what a method remembers: nothing, a vector of each worker, one that is drawn anew at
# times, what several exchanges hold, factors, levels that are learned, anchors, control variates,
# and who takes part. A branch goes on with the state of every method (test_session_changes).
FIRST = {
    "compressed-sgd",
    "ef21-sgdm",
    "rand-diana",
    "vr-marina",
    "m3",
    "power-sgd",
    "learned",
    "docofl",
    "compressed-scaffnew",
    "coco-ef",
    "partial-participation",
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind in FIRST else [pytest.mark.slow]) for kind in METHODS],
)
def test_every_method(kind: str, tmp_path: Path) -> None:
    assert_resumes(config_of(settings_of(kind), **SHORT), tmp_path)


@pytest.mark.parametrize("clock", [None, CLOCK], ids=["no clock", "clock"])
@pytest.mark.parametrize("kind", ASYNCHRONOUS)
@pytest.mark.parametrize("downlink", ["full", pytest.param("half", marks=pytest.mark.slow)])
def test_asynchronous_methods(kind: str, clock: Any, downlink: str, tmp_path: Path) -> None:
    """Reports are on their way at the checkpoint."""
    method = {"kind": kind, **ASYNCHRONOUS[kind]}
    config = config_of(method, downlink, **SHORT, clock=clock or {"compute_s": [1, 2, 3, 40]})
    assert_resumes(config, tmp_path)


def test_the_kinds_are_all() -> None:
    timed = {kind for kind, method in KINDS[Method].items() if method.timed}  # never twice the same
    assert {*METHODS, *ASYNCHRONOUS} == set(KINDS[Method]) - timed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ADMITTED)
@pytest.mark.parametrize("downlink", EXACT)
def test_every_method_with_exact_downlinks(downlink: str, kind: str, tmp_path: Path) -> None:
    assert_resumes(config_of(settings_of(kind), downlink, **SHORT), tmp_path)


DOWNLINKS: dict[str, Any] = {
    "half": "half",
    "delta": "delta",
    "relay": {"kind": "relay", "digest_every": 3},
    "compressed": COMPRESSED,
    "compressed by segments": {
        "kind": "compressed",
        "compressor": {"kind": "s-top-k", "k": 1, "segment_size": 9},
    },
    "compressed by rounding": {"kind": "compressed", "compressor": {"kind": "biased-rounding"}},
    "compressed by layer": {
        "kind": "compressed",
        "compressor": {"kind": "per-layer", "compressor": {"kind": "scaled-sign"}},
    },
}


@pytest.mark.parametrize(
    "method", [pytest.param(SPARSE, marks=pytest.mark.slow), SOME], ids=["all", "some"]
)
@pytest.mark.parametrize("downlink", DOWNLINKS)
@pytest.mark.parametrize("servers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_downlinks_send_no_copies_anew(
    downlink: str, method: Any, servers: int, tmp_path: Path
) -> None:
    """Of two workers out of four some have old copies at the checkpoint, and get what they lack."""
    config = config_of(
        method, DOWNLINKS[downlink], servers=servers, rounds=12, buffers_every=5, observe_every=None
    )
    session = assert_resumes(config, tmp_path, after=7)
    lost = [entry for entry in session.repeated if entry.direction == "downlink"]
    assert [entry.round_index for entry in lost] == [6] * len(lost)
    again = [e for e in session.ledger if e.direction == "downlink" and e.round_index == 6]
    assert again == lost


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["kind"])
@pytest.mark.parametrize("downlink", ["full", *EXACT])
def test_every_optimizer(optimizer: dict[str, Any], downlink: str, tmp_path: Path) -> None:
    method = {"kind": "ef21-sgdm", "compressor": TOP_K}
    assert_resumes(config_of(method, downlink, **SHORT, optimizer=optimizer), tmp_path)


@pytest.mark.parametrize(
    "downlink",
    [
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("full", "relay")),
        "delta",
        COMPRESSED,
    ],
    ids=str,
)
def test_several_servers(downlink: Any, tmp_path: Path) -> None:
    config = config_of(settings_of("diana"), downlink, **SHORT, servers=3)
    assert_resumes(config, tmp_path)


def test_clipped_steps_of_several_servers(tmp_path: Path) -> None:
    config = config_of(SPARSE, "delta", **SHORT, servers=2, clip_norm=0.1)
    assert_resumes(config, tmp_path)


@pytest.mark.parametrize("kind", MOVING)
def test_full_batches_and_dropout(kind: str, tmp_path: Path) -> None:
    assert_resumes(config_of(settings_of(kind), **SHORT, batch_size="full"), tmp_path)
