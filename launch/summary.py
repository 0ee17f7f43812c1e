"""What a run came to, in one row."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from launch.metrics import measure_names
from launch.session import Session


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the final table.

    Attributes:
        name: the run's name.
        rounds: rounds done.
        measures: the problem's own measures after the last evaluation.
        uplink_bytes: frames from workers to server, all rounds and workers.
        downlink_bytes: frames from server to workers.
        bits_per_value: uplink bits per round, worker and parameter, from the frames.
        paper_formula: what the method's paper says one uplink message costs, in bits.
        paper_bits_per_value: the value of that formula, per parameter.
        seconds: wall-clock time of the rounds, without set-up and evaluations.
        clock_s: seconds of the simulated clock; None without one.
    """

    name: str
    rounds: int
    measures: dict[str, float]
    uplink_bytes: int
    downlink_bytes: int
    bits_per_value: float
    paper_formula: str | None
    paper_bits_per_value: float | None
    seconds: float
    clock_s: float | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return it as a plain mapping, for JSON: None for a measure that is not finite."""
        finite = {n: v if math.isfinite(v) else None for n, v in self.measures.items()}
        return {**asdict(self), "measures": finite}


def summarise(session: Session) -> Summary:
    """Return the row of a session as it stands."""
    last = session.metrics[-1]
    config, rounds = session.config, last["round"]
    messages = max(1, rounds * config.workers)
    cost = config.method.paper_cost(session.dim)
    paper_bits = session.ledger.paper_bits("uplink")
    tested = next(m for m in reversed(session.metrics) if measure_names(m))
    return Summary(
        name=config.name,
        rounds=rounds,
        measures={name: tested[f"test_{name}"] for name in measure_names(tested)},
        uplink_bytes=last["uplink_bytes"],
        downlink_bytes=last["downlink_bytes"],
        bits_per_value=8 * last["uplink_bytes"] / (messages * session.dim),
        paper_formula=cost.formula if cost else None,
        paper_bits_per_value=None if paper_bits is None else paper_bits / (messages * session.dim),
        seconds=last["seconds"],
        clock_s=last.get("clock_s"),
    )
