"""How the parts of a round add up."""

import os

import pytest

from benchmarks.round_breakdown import PARTS, WORK, parts_of


@pytest.mark.parametrize(
    ("hosts", "exchange_ms", "transport_ms"),
    [
        ([(0.008, 0.006), (0.004, 0.004)], 8, 42),  # both on processors of their own
        ([(0.011, 0.006), (0.011, 0.010)], 11, 39),  # waiting for each other
        ([(0.008, 0.013), (0.010, 0.013)], 15, 35),  # with 4 ms of decoding, on two processors
    ],
)
def test_the_parts_of_a_round_are_the_round(
    hosts: list[tuple[float, float]],
    exchange_ms: float,
    transport_ms: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    seconds = {"news": 0.005, "send": 0.015, "collect": 0.046, "decode": 0.004}
    seconds |= {"aggregate": 0.003, "optimizer": 0.002, "finite": 0.001, "rest": 0.024}
    parts = parts_of(seconds, hosts, 0.103)
    assert parts["driver"] == pytest.approx(3)
    assert parts["send"] == pytest.approx(15)
    assert parts["exchange"] == pytest.approx(exchange_ms)
    assert parts["transport"] == pytest.approx(transport_ms)
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["round"])
    beside = sum(parts[name] for name in PARTS if name not in WORK)
    assert parts["beside work"] == pytest.approx(beside)
