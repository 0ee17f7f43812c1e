"""Which runs may be made at the same time."""

from collections.abc import Iterable

from launch.configuration.run_config import RunConfig
from mlmc_ray.errors import ConfigError


def check_parallel(configs: Iterable[RunConfig], processes: int) -> None:
    """Refuse several processes for runs that share something.

    Args:
        configs: of the runs.
        processes: how many are to go on at a time.

    Raises:
        ConfigError: the runs are on Ray, or use several threads.
    """
    if processes < 1:
        raise ConfigError(f"--parallel {processes}: give at least 1")
    if processes == 1:
        return
    for config in configs:
        if config.engine != "inline":
            raise ConfigError(
                f"--parallel {processes}: runs on Ray share one cluster: give --engine inline, "
                "whose results are the same"
            )
        if config.threads != 1:
            raise ConfigError(
                f"--parallel {processes}: threads is {config.threads}: give --set threads=1, so "
                "that runs do not wait for each other"
            )
