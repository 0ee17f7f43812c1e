"""What comes before the first round: checks that need no data and no processes, and the engine."""

from collections.abc import Callable
from pathlib import Path

from launch.callbacks import check_callbacks
from launch.configuration.fitting import check_fit
from launch.configuration.run_config import RunConfig
from launch.engines.base import Engine, RunState
from launch.engines.inline import InlineEngine
from launch.shadowing import shadowing_file
from launch.theory.step_size import check_step_size
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.problems import Problem, initial_model


def check_run(config: RunConfig) -> tuple[Problem, int]:
    """Refuse a run that could not begin: all that is known without data and processes.

    Returns:
        The problem, loaded, and the number of its parameters.

    Raises:
        ConfigError: the method does not fit the model or the workers, or theory has no step size.
        ProblemError: the problem cannot be loaded.
    """
    problem = config.problem.load()
    model = initial_model(problem, config.seed)
    check_fit(config, model)
    check_step_size(config, problem)
    check_callbacks(config.callbacks, config)
    return problem, model.parameters.numel()


def check_run_of(config: RunConfig, label: str) -> None:
    """Do as ``check_run``, with errors that begin with what the run is called.

    Raises:
        ConfigError, ProblemError: see there.
    """
    try:
        check_run(config)
    except (ConfigError, ProblemError) as error:
        raise type(error)(f"{label}: {error}") from error


def start_engine(
    config: RunConfig, state: RunState | None, on_note: Callable[[str], None]
) -> Engine:
    """Return an engine that is ready for a round; if it cannot be, nothing of it is left running.

    Args:
        config: of the run.
        state: to go on from; None for a run's beginning.
        on_note: called with a line about what takes long.

    Raises:
        ConfigError, ProblemError, ClusterError: it cannot be started.
    """
    engine = _engine(config, on_note)
    try:
        if state is not None:
            engine.load(state)
    except BaseException:
        engine.close()
        raise
    return engine


def _engine(config: RunConfig, on_note: Callable[[str], None]) -> Engine:
    if config.engine == "inline":
        return InlineEngine(config)
    message = shadowing_file([Path.cwd(), *config.problem.search_paths])
    if message:
        raise ConfigError(message)
    # These import Ray, which an inline run does not need.
    from launch.engines.cluster import current_cluster
    from launch.engines.ray_engine import RayEngine

    if current_cluster() is None:
        on_note("starting Ray" if config.address is None else f"joining Ray at {config.address}")
    return RayEngine(config, on_note)
