"""How many bytes a run took to come to a given value of its measure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.configuration.build import nearest
from launch.metrics import LESS_IS_BETTER, MORE_IS_BETTER, Metrics, format_measure
from launch.scaling.plan import parse_target
from mlmc_ray.errors import ConfigError

_BY_DEFAULT = {"gap": 1e-6}
_NEVER_NEGATIVE = ("gap", "squared_distance", "gradient_norm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A value of a measure, the same for all runs of a comparison.

    Args:
        measure: its name.
        value: reached by a value that is not worse.

    Raises:
        ConfigError: nobody knows whether more or less of the measure is better, or it never has
            such a value.
    """

    measure: str
    value: float

    def __post_init__(self) -> None:
        known = [*LESS_IS_BETTER, *MORE_IS_BETTER]
        if self.measure not in known:
            raise ConfigError(
                f"--target {self.value:g}: the measure is {self.measure!r}, of which it is not "
                f"known whether more or less is better: leave --target out, or measure one of "
                f"{known}"
            )
        given = f"--target {self.measure}={self.value:g}"
        if not math.isfinite(self.value):
            raise ConfigError(f"{given}: give a finite number")
        if self.measure == "accuracy" and not 0 < self.value <= 1:
            raise ConfigError(f"{given}: an accuracy is a fraction: give 0.9 for 90 per cent")
        if self.measure in _NEVER_NEGATIVE and self.value < 0:
            raise ConfigError(f"{given}: it is never negative: give 0 or more")

    @property
    def more_is_better(self) -> bool:
        """Whether values above it have reached it, rather than values below."""
        return self.measure in MORE_IS_BETTER

    def __str__(self) -> str:
        value = format_measure(self.measure, self.value).replace("e-0", "e-")
        return f"{self.measure} {value}"

    def bytes_up(self, rounds: Sequence[Metrics]) -> int | None:
        """Return the bytes that workers had sent at the first evaluation that reached it.

        Args:
            rounds: metrics of a run, of which only those with an evaluation count.

        Returns:
            Bytes of frames since the start of the run; None if no evaluation reached it.
        """
        for metrics in rounds:
            value = metrics.get(f"test_{self.measure}")
            if value is not None and self._reached(value):
                return int(metrics["uplink_bytes"])
        return None

    def _reached(self, value: float) -> bool:
        return value >= self.value if self.more_is_better else value <= self.value


def read_target(text: str) -> "float | Target":
    """Read ``0.01``, or ``gap=0.01`` to name the measure; ``gap<=0.01`` says the same.

    Raises:
        ConfigError: quotes the text; or see ``Target``.
    """
    try:
        return float(text)
    except ValueError:
        parsed = parse_target(text)
    target = Target(measure=parsed.measure, value=parsed.value)
    if (parsed.best == "highest") is not target.more_is_better:
        sign = ">=" if target.more_is_better else "<="
        raise ConfigError(
            f"--target {text}: is the wrong way round: give {parsed.measure}{sign}{parsed.value:g}"
        )
    return target


def target_for(measure: str, wanted: "float | Target | None") -> Target | None:
    """Return the target of a comparison.

    Args:
        measure: which its table shows.
        wanted: the user's choice, a value alone being one of that measure; None for 1e-6 of a gap,
            and for no target of other measures.

    Raises:
        ConfigError: see ``Target``.
    """
    if isinstance(wanted, Target):
        return wanted
    value = _BY_DEFAULT.get(measure) if wanted is None else wanted
    return None if value is None else Target(measure=measure, value=value)


def check_measured(target: Target, measures: Mapping[str, Sequence[str]]) -> None:
    """Refuse a target of a measure that a run does not have.

    Args:
        target: of the comparison.
        measures: their names, by run.

    Raises:
        ConfigError: lists those that the run has.
    """
    for run, names in measures.items():
        if target.measure not in names:
            raise ConfigError(
                f"--target {target.measure}={target.value:g}: {run!r} has no "
                f"{target.measure!r}{nearest(target.measure, names)}; it measures {sorted(names)}"
            )
