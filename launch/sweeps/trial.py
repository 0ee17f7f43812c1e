"""One run of a sweep: a setting, a seed, and the measure after some numbers of rounds."""

import math
from dataclasses import dataclass
from typing import Any

from launch.configuration.run_config import load_config
from launch.many.apart import Tell
from launch.session import Session
from launch.summary import summarise
from launch.sweeps.results import NUMBER, TEXT_OR_NONE, Shape
from mlmc_ray.errors import NonFiniteError, RoundError, one_line

SHAPE: Shape = {
    "measured": dict,
    "diverged": TEXT_OR_NONE,
    "seconds": NUMBER,
}
"""What is read again of a trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A run, as plain values that can go to another process.

    Args:
        config: plain mapping of the configuration, seed included.
        measure: name of the problem's measure.
        at_rounds: after how many rounds it is taken, in increasing order.
    """

    config: dict[str, Any]
    measure: str
    at_rounds: tuple[int, ...]


def run_trial(trial: Trial, tell: Tell) -> dict[str, Any]:
    """Run a trial from its start.

    Args:
        trial: what to run.
        tell: called with 1 after every round.

    Returns:
        ``measured``, by the number of rounds as text; ``diverged``, why the run has no measure
        after all its rounds, or None; ``seconds`` of its rounds; ``uplink_bytes`` and
        ``downlink_bytes`` of all its frames. A run that ends by an error of its numbers has
        diverged, and so has one whose measure is not finite.

    Raises:
        MlmcRayError: the run failed otherwise than by diverging.
    """
    measured: dict[str, float] = {}
    diverged = None
    with Session(load_config(trial.config)) as session:
        try:
            for rounds in trial.at_rounds:
                session.run(rounds - session.round_index, on_round=lambda _: tell(1))
                value = session.evaluate()[trial.measure]
                if not math.isfinite(value):
                    diverged = f"{trial.measure} is {value} after {rounds} rounds"
                    break
                measured[str(rounds)] = value
        except (NonFiniteError, RoundError) as error:
            if not summarise(session, error).diverged:
                raise
            diverged = one_line(error)
        last = session.metrics[-1]
        return {
            "measured": measured,
            "diverged": diverged,
            "seconds": last["seconds"],
            "uplink_bytes": last["uplink_bytes"],
            "downlink_bytes": last["downlink_bytes"],
        }
