"""The measure that decides: which there are, and whether more of it is better."""

from collections.abc import Mapping, Sequence
from typing import Literal

from launch.configuration.build import nearest
from launch.configuration.run_config import RunConfig
from launch.metrics import MORE_IS_BETTER, main_measure
from launch.session import check_run
from mlmc_ray.errors import ConfigError
from mlmc_ray.problems import explaining, initial_model
from mlmc_ray.seeding import drawing, generator_for, seed_for

Best = Literal["highest", "lowest"]

_HIGHER = (*MORE_IS_BETTER, "precision", "recall", "f1", "auc", "score", "reward")


def usual_best(measure: str) -> Best:
    """Return "highest" for an accuracy, a score and the like, else "lowest"."""
    return "highest" if any(word in measure.lower() for word in _HIGHER) else "lowest"


def check_start(config: RunConfig) -> None:
    """Refuse a run that could not begin: see ``check_run``, and that every worker has a shard.

    Raises:
        ConfigError, ProblemError: see there; there are more workers than shards.
    """
    problem, _ = check_run(config)
    last = config.workers - 1
    with explaining(f"making the shard of worker {last}"):
        problem.shard(last, config.workers, generator_for(config.seed, "shards"))


def measured_by(config: RunConfig) -> dict[str, float]:
    """Return a problem's measures at the first parameters, by name.

    Raises:
        ProblemError: the problem's own code failed.
    """
    problem = config.problem.load()
    module = initial_model(problem, config.seed).module.eval()
    with explaining("evaluating"), drawing(seed_for(config.seed, "evaluate", 0)):
        return dict(problem.evaluate(module))


def choose_measure(
    measure: str | None, names: Mapping[str, Sequence[str]], option: str = "--measure"
) -> str:
    """Return the measure if all runs have it; without one, that which tables show.

    Args:
        measure: as asked for.
        names: of the measures, by run.
        option: of the command line, for errors.

    Raises:
        ConfigError: a run lacks it; lists those that it has.
    """
    if measure is None:
        return main_measure(names)
    for run, known in names.items():
        if measure not in known:
            raise ConfigError(
                f"{option} {measure}: {run!r} has no {measure!r}{nearest(measure, known)}; it "
                f"measures {sorted(known)}"
            )
    return measure
