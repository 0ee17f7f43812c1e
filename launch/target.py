"""How many bytes a run took to come to a given value of its measure."""

from collections.abc import Sequence
from dataclasses import dataclass

from launch.metrics import LESS_IS_BETTER, MORE_IS_BETTER, Metrics
from mlmc_ray.errors import ConfigError

_BY_DEFAULT = {"gap": 1e-6}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A value of a measure, the same for all runs of a comparison.

    Args:
        measure: its name.
        value: reached by a value that is not worse.

    Raises:
        ConfigError: nobody knows whether more or less of the measure is better.
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
        if self.measure in MORE_IS_BETTER:
            return value >= self.value
        return value <= self.value


def target_for(measure: str, value: float | None) -> Target | None:
    """Return the target of a comparison.

    Args:
        measure: which its table shows.
        value: the user's choice; None for 1e-6 of a gap, and for no target of other measures.

    Raises:
        ConfigError: see ``Target``.
    """
    value = _BY_DEFAULT.get(measure) if value is None else value
    return None if value is None else Target(measure=measure, value=value)
