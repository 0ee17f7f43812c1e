"""What a run comes to: bits per value by hand, and bytes up to a target."""

import math
from typing import Any

import pytest

from launch import Session
from launch.comparing.target import Target, check_measured, read_target, target_for
from launch.metrics import Metrics
from launch.summary import summarise
from mlmc_ray.errors import ConfigError, NonFiniteError, ProblemError, RoundError


def config_of(method: Any, **changes: Any) -> dict[str, Any]:
    return {
        "problem": {"kind": "quadratic", "num_functions": 3, "dim": 8},
        "method": method,
        "optimizer": {"kind": "sgd", "step_size": 0.03125},
        "workers": 3,
        "rounds": 5,
        "engine": "inline",
        **changes,
    }


# Bits per value. A dense report of 8 entries is 50 bytes, reckoned by hand in test_session; the
# version of an asynchronous one takes 8 for its name and 9 for a number more.


@pytest.mark.parametrize(
    ("method", "clock", "frame_bytes", "frames"),
    [
        ("sgd", None, 50, 15),
        ({"kind": "partial-participation", "method": "sgd", "participants": 2}, None, 50, 10),
        ({"kind": "async-sgd"}, {"compute_s": [1, 2, 4]}, 67, 5),
        # See test_clock: the reports of its first five rounds are 1, 1, 2, 1 and 3.
        (
            {"kind": "async-sgd", "policy": "drop", "max_staleness": 0},
            {"compute_s": [1, 2, 4]},
            67,
            8,
        ),
    ],
)
def test_bits_per_value_are_those_of_the_frames_that_crossed(
    method: Any, clock: Any, frame_bytes: int, frames: int
) -> None:
    with Session(config_of(method, clock=clock)) as session:
        session.run()
        row = summarise(session)
    assert row.uplink_bytes == frames * frame_bytes
    assert row.bits_per_value == frame_bytes * 8 / 8
    assert row.paper_bits_per_value == 64


def test_a_run_without_a_round_has_sent_nothing() -> None:
    with Session(config_of("sgd")) as session:
        row = summarise(session)
    assert (row.rounds, row.uplink_bytes, row.bits_per_value) == (0, 0, 0)


# Targets.


def rounds_of(measure: str, *values: float | None) -> list[Metrics]:
    """Metrics of rounds that send 10 bytes each, evaluated where there is a value."""
    return [
        {"round": i, "uplink_bytes": 10 * i, **({} if v is None else {f"test_{measure}": v})}
        for i, v in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("measure", "values", "target", "sent"),
    [
        ("gap", (1.0, None, 0.25, 0.5, 0.125), 0.25, 20),
        ("gap", (1.0, 0.5), 0.25, None),
        ("gap", (0.1, 0.5), 0.25, 0),
        ("gap", (1.0, math.nan, -1e-16), 1e-6, 20),
        ("accuracy", (0.1, 0.5, 0.75, 0.5), 0.75, 20),
        ("accuracy", (0.1, 0.5), 0.75, None),
        ("loss", (3.0, 2.0, 1.0), 2.0, 10),
    ],
)
def test_the_first_evaluation_that_is_no_worse_counts(
    measure: str, values: tuple[float | None, ...], target: float, sent: int | None
) -> None:
    assert Target(measure=measure, value=target).bytes_up(rounds_of(measure, *values)) == sent


def test_a_gap_has_a_target_by_default() -> None:
    assert target_for("gap", None) == Target(measure="gap", value=1e-6)
    assert target_for("gap", 0.5) == Target(measure="gap", value=0.5)
    assert target_for("accuracy", None) is None
    assert target_for("bleu", None) is None


def test_a_target_of_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        target_for("bleu", 30.0)
    assert str(caught.value) == (
        "--target 30: the measure is 'bleu', of which it is not known whether more or less is "
        "better: leave --target out, or measure one of ['gap', 'squared_distance', "
        "'gradient_norm', 'loss', 'accuracy']"
    )


@pytest.mark.parametrize("text", ["gap=0.01", "gap<=0.01", " gap = 1e-2"])
def test_a_target_may_name_its_measure(text: str) -> None:
    assert read_target(text) == Target(measure="gap", value=0.01)
    assert target_for("accuracy", read_target(text)) == Target(measure="gap", value=0.01)
    assert read_target("0.01") == 0.01


REFUSED = {
    "accuracy=50": "--target accuracy=50: an accuracy is a fraction: give 0.9 for 90 per cent",
    "accuracy=0": "--target accuracy=0: an accuracy is a fraction: give 0.9 for 90 per cent",
    "gap=-1": "--target gap=-1: it is never negative: give 0 or more",
    "loss=nan": "--target loss=nan: give a finite number",
    "gap>=0.1": "--target gap>=0.1: is the wrong way round: give gap<=0.1",
    "accuracy<=0.5": "--target accuracy<=0.5: is the wrong way round: give accuracy>=0.5",
    "half": "--target half: expected measure=value, such as accuracy=0.9 or gap=1e-3",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_target_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_target(text)
    assert str(caught.value) == REFUSED[text]


def test_a_value_that_makes_no_sense_for_the_measure_of_the_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="an accuracy is a fraction"):
        target_for("accuracy", 50.0)


def test_a_target_is_of_a_measure_that_every_run_has() -> None:
    target = Target(measure="loss", value=0.1)
    check_measured(target, {"a": ["loss"], "b": ["gap", "loss"]})
    with pytest.raises(ConfigError) as caught:
        check_measured(target, {"a": ["loss"], "b": ["losses", "gap"]})
    assert str(caught.value) == (
        "--target loss=0.1: 'b' has no 'loss' (did you mean 'losses'?); it measures "
        "['gap', 'losses']"
    )


# Runs that failed.


def test_an_error_is_in_the_row_of_its_run() -> None:
    with Session(config_of("sgd")) as session:
        session.run(2)
    assert summarise(session).ended is None
    wrapped = RoundError("round 2: report of worker 0: NaN")
    wrapped.__cause__ = NonFiniteError("NaN")
    errors = {
        NonFiniteError("round 2: the loss is [nan]"): True,
        RoundError("round 2: training diverged"): True,
        wrapped: True,
        RoundError("round 2: no answer"): False,
        ProblemError("RuntimeError while computing the loss"): False,
    }
    for error, diverged in errors.items():
        row = summarise(session, error)
        assert (row.rounds, row.ended, row.diverged) == (2, str(error), diverged)
        assert row.to_mapping()["ended"] == str(error)
