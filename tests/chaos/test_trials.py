"""A few of the trials; ``python -m tests.chaos`` runs as many as it is asked for."""

from pathlib import Path

import pytest

from tests.chaos.trials import run, trial_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

FAULTS = ("worker", "server", "driver")


@pytest.mark.parametrize("seed", [0, pytest.param(4, marks=pytest.mark.slow), 8])
def test_a_disturbed_run_ends_as_if_nothing_had_happened(seed: int, tmp_path: Path) -> None:
    """One each of a worker, a server and a driver that are lost, of different methods."""
    trial = trial_of(seed, FAULTS)
    assert run(trial, tmp_path / "run") == "", trial
