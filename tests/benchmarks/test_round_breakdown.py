"""How the parts of a round add up."""

import pytest

from benchmarks.round_breakdown import PARTS, WORK, parts_of
from mlmc_ray.rounds import RoundResult, Work


def test_the_parts_of_a_round_are_the_round() -> None:
    result = RoundResult(work=[Work(0, 0, i, i % 2, 0.001 * (i + 1)) for i in range(4)])
    seconds = {"round": 0.1, "exchange": 0.07, "send": 0.02, "news": 0.005, "decode": 0.004}
    seconds |= {"aggregate": 0.003, "optimizer": 0.002, "finite": 0.001}
    parts = parts_of(result, seconds, 0.103)
    assert parts["driver"] == pytest.approx(3)
    assert parts["send"] == pytest.approx(15)  # without the news
    assert parts["workers"] == pytest.approx(6)  # workers 1 and 3 are on one host
    assert parts["transport"] == pytest.approx(40)
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["round"])
    beside = sum(parts[name] for name in PARTS if name not in WORK)
    assert parts["beside work"] == pytest.approx(beside)
