"""Keys of a configuration that change nothing, or only where and how long a run runs."""

from launch.configuration.run_config import RunConfig

UNCHANGING = (
    *("panels", "address", "search_paths", "checkpoints"),
    *("placement_timeout_s", "round_timeout_s", "restarts"),
)
"""Keys that change nothing of what comes of any run."""

PLACES = ("engine", "actors", "placement", "gpus_per_actor")
"""Keys that change how long work takes, and nothing of runs that do not go by it."""

MAY_DIFFER = (*UNCHANGING, *PLACES, "rounds", "elastic", "callbacks")
"""Keys that may change between the rounds of a run: its past stays what it is."""


def without_effect(config: RunConfig) -> tuple[str, ...]:
    """Return the keys that could have been given otherwise, with the same result.

    Callbacks are not among them: a new one would not have been told of the run.

    Args:
        config: of a whole run.
    """
    goes_by_time = not config.repeatable or config.elastic is not None
    return UNCHANGING if goes_by_time else (*UNCHANGING, *PLACES)
