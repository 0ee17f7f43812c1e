"""What the benchmark of aggregation times."""

import pytest

from benchmarks.aggregation import KINDS, reports_of, times
from mlmc_ray.wire import decode


@pytest.mark.parametrize("kind", KINDS)
def test_every_worker_has_a_report_of_its_own_and_all_parts_are_timed(kind: str) -> None:
    frames = reports_of(kind, dim=100_000, workers=2)
    assert [decode(frame).payloads["gradient"].dim for frame in frames.values()] == [100_000] * 2
    assert frames[0] != frames[1]
    found = times(frames, dim=100_000, repeats=1)
    assert found["frame_bytes"] == round(sum(map(len, frames.values())) / 2)
    assert all(found[name] > 0 for name in ("copy", "decode", "average", "all"))
