"""Nodes of a lab that are cut off: the run ends as if nothing had happened."""

import pytest

from tests.chaos.cables import in_lab
from tests.launch.lab.test_lab import needs_lab


@pytest.mark.lab
@needs_lab
@pytest.mark.parametrize("seed", [6, 17, 16])
def test_a_run_survives_a_cable_that_is_pulled(seed: int) -> None:
    """Of a host of MLMC, of one of EF21-SGDM, and of the server."""
    done = in_lab(seed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost and started anew: as if undisturbed" in done.stdout, done.stdout
