"""What a run came to, in one row."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from launch.comparing.target import Target
from launch.metrics import measure_names
from launch.observations import levels_in, mean_level
from launch.session import Session
from mlmc_ray.errors import MlmcRayError, NonFiniteError, RoundError, one_line


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the final table.

    Attributes:
        name: the run's name.
        rounds: rounds done.
        measures: the problem's own measures after the last evaluation.
        uplink_bytes: frames from workers to server, all rounds and workers.
        downlink_bytes: frames from server to workers.
        bits_per_value: bits of an uplink frame per parameter, the mean over those that crossed.
        paper_formula: what the method's paper says one uplink message costs, in bits.
        paper_bits_per_value: the value of that formula per parameter, the mean over the same.
        gradients: computed by all workers in all rounds.
        seconds: wall-clock time of the rounds, without set-up and evaluations.
        clock_s: seconds of the simulated clock; None without one.
        target: what the runs of a comparison are to reach; None without one.
        bytes_to_target: uplink bytes until the first evaluation that reached it; None where none
            did.
        ended: the error that ended the run before its last round; None without one.
        diverged: that error says that the training diverged.
        estimated_interface: bytes that the frames come to on the interfaces of hosts that have a
            node each, by direction; an estimate, and ``mlmc-ray wire`` measures.
        mean_level: of those that the workers' MLMC estimators drew, from 1, in the rounds that were
            observed; None where none was drawn or seen.
    """

    name: str
    rounds: int
    measures: dict[str, float]
    uplink_bytes: int
    downlink_bytes: int
    bits_per_value: float
    paper_formula: str | None
    paper_bits_per_value: float | None
    gradients: int
    seconds: float
    clock_s: float | None = None
    target: Target | None = None
    bytes_to_target: int | None = None
    ended: str | None = None
    diverged: bool = False
    estimated_interface: dict[str, int] | None = None
    mean_level: float | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return it as a plain mapping, for JSON: None for a measure that is not finite."""
        finite = {n: v if math.isfinite(v) else None for n, v in self.measures.items()}
        return {**asdict(self), "measures": finite}

    @classmethod
    def from_mapping(cls, row: Mapping[str, Any]) -> "Summary":
        """Return the row that ``to_mapping`` gave: NaN for a measure that was not finite.

        Raises:
            AttributeError, KeyError, TypeError: it is no such row.
        """
        measures = {n: math.nan if v is None else v for n, v in row["measures"].items()}
        target = None if row["target"] is None else Target(**row["target"])
        return cls(**{**row, "measures": measures, "target": target})


def summarise(session: Session, error: MlmcRayError | None = None) -> Summary:
    """Return the row of a session as it stands.

    Args:
        session: may be closed.
        error: that ended it, if one did.
    """
    last = session.metrics[-1]
    config = session.config
    # Not rounds times workers: some rounds are one report, or ask only some of the workers.
    messages = sum(entry.direction == "uplink" for entry in session.ledger)
    values = max(1, messages) * session.dim / config.servers
    cost = config.method.paper_cost(session.dim)
    paper_bits = session.ledger.paper_bits("uplink")
    estimate = session.estimated_interface_bytes()
    tested = next(m for m in reversed(session.metrics) if measure_names(m))
    return Summary(
        name=config.name,
        rounds=last["round"],
        measures={name: tested[f"test_{name}"] for name in measure_names(tested)},
        uplink_bytes=last["uplink_bytes"],
        downlink_bytes=last["downlink_bytes"],
        bits_per_value=8 * last["uplink_bytes"] / values,
        paper_formula=cost.formula if cost else None,
        paper_bits_per_value=None if paper_bits is None else paper_bits / values,
        gradients=last.get("gradients", 0),
        seconds=last["seconds"],
        clock_s=last.get("clock_s"),
        ended=one_line(error) if error else None,
        diverged=_says_diverged(error),
        estimated_interface={way: round(n) for way, n in estimate._asdict().items()},
        mean_level=mean_level(levels_in(session.observations)),
    )


def _says_diverged(error: BaseException | None) -> bool:
    """Return whether a number was not finite, rather than something broken."""
    if isinstance(error, RoundError):
        return "diverged" in str(error) or isinstance(error.__cause__, NonFiniteError)
    return isinstance(error, NonFiniteError)
