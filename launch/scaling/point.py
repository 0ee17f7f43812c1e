"""One number of workers: what it takes to the target, in a process of its own."""

import dataclasses
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

from launch.configuration.run_config import load_config
from launch.many.apart import Tell
from launch.metrics import measure_names
from launch.scaling.plan import Target
from launch.scaling.variance import first_variance
from launch.session import Session
from launch.summary import summarise
from launch.sweeps.results import NUMBER, TEXT_OR_NONE, Shape
from mlmc_ray.errors import NonFiniteError, RoundError, one_line

SHAPE: Shape = {
    "workers": int,
    "batch_size": (int, str),
    "rounds": int,
    "reached": (bool, type(None)),
    "measures": dict,
    "uplink_bytes": int,
    "downlink_bytes": int,
    "seconds": NUMBER,
    "set_up_s": NUMBER,
    "clock_s": (*NUMBER, type(None)),
    "peak_bytes": (int, type(None)),
    "diverged": TEXT_OR_NONE,
    "variance": (dict, type(None)),
}
"""Of what ``measure_point`` returns."""

_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A number of workers to measure, as plain values that can go to another process.

    Args:
        config: plain mapping of the configuration.
        target: at which the run ends.
        draws: from which the variance is estimated.
    """

    config: dict[str, Any]
    target: Target | None
    draws: int


def measure_point(task: Task, tell: Tell) -> dict[str, Any]:
    """Run a number of workers to the target, or to the end of its rounds.

    Args:
        task: what to run.
        tell: called with 1 after every round.

    Returns:
        ``workers``, ``batch_size``, ``rounds`` that were run, ``reached``: whether the target was
        (None without one), ``measures`` at the end, ``uplink_bytes`` and ``downlink_bytes`` of all
        workers, ``seconds`` of the rounds, ``set_up_s``, ``clock_s`` (None without a clock),
        ``peak_bytes``: the most memory of the process, before the variance is computed (None on
        Ray, where there are several processes),
        ``diverged``: why, or None, and ``variance``, see ``Variance`` (None without a compressor).

    Raises:
        MlmcRayError: the run failed otherwise than by diverging.
    """
    config = load_config(task.config)
    started = time.perf_counter()
    with Session(config) as session:
        set_up_s = time.perf_counter() - started
        diverged = None
        try:
            _run(session, task.target, tell)
        except (NonFiniteError, RoundError) as error:
            if not summarise(session, error).diverged:
                raise
            diverged = one_line(error)
        found = _found(session, task.target)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    variance = first_variance(config, task.draws)
    return {
        "workers": config.workers,
        "batch_size": config.batch_size,
        **found,
        "set_up_s": set_up_s,
        "peak_bytes": most if config.engine == "inline" else None,
        "diverged": diverged,
        "variance": None if variance is None else dataclasses.asdict(variance),
    }


def _run(session: Session, target: Target | None, tell: Tell) -> None:
    config = session.config
    while session.round_index < config.rounds:
        rounds = min(config.evaluate_every, config.rounds - session.round_index)
        metrics = session.run(rounds, on_round=lambda _: tell(1))
        if target is not None and target.reached(metrics[f"test_{target.measure}"]):
            return


def _found(session: Session, target: Target | None) -> dict[str, Any]:
    last = session.metrics[-1]
    tested = next(m for m in reversed(session.metrics) if measure_names(m))
    return {
        "rounds": last["round"],
        "reached": None if target is None else target.reached(tested[f"test_{target.measure}"]),
        "measures": {name: tested[f"test_{name}"] for name in measure_names(tested)},
        "uplink_bytes": last["uplink_bytes"],
        "downlink_bytes": last["downlink_bytes"],
        "seconds": last["seconds"],
        "clock_s": last.get("clock_s"),
    }
