"""The session: one run, round by round. The command line is built on it."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from launch.config import RunConfig, load_config
from launch.engines import Engine, InlineEngine, RoundResult
from launch.fitting import check_fit, notes_on
from launch.metrics import Metrics
from launch.run_directory import RunDirectory, check_unused
from launch.shadowing import shadowing_file
from launch.theory import check_step_size, with_step_size
from mlmc_ray.errors import ConfigError, ProblemError, RoundError
from mlmc_ray.ledger import Ledger
from mlmc_ray.problems import Problem, initial_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Session:
    """One run, driven from Python.

    >>> with Session("configs/quickstart.yaml") as session:
    ...     session.run(50)
    ...     session.evaluate()

    Args:
        source: a YAML file, a mapping, or a ``RunConfig``.
        overrides: ``a.b=c`` settings that win over the source.
        out: directory to write the run to; by default nothing is written.
        on_note: called with a line about settings that are hardly meant, or about what takes long
            before the first round.

    Attributes:
        config: the resolved configuration.
        dim: number of trained parameters.
        theory: what the step size is, where the configuration says "theory", and else None.
        metrics: one dict a round, as in ``metrics.jsonl``: round, seconds, train_loss,
            uplink_bytes, downlink_bytes (all since the start), clock_s where there is a clock, and
            test_* where evaluated. The first is from before the first round, and has no train_loss.
        ledger: every frame so far.

    Raises:
        ConfigError, ProblemError, ClusterError: the session is not opened; nothing of it is left
            running.
    """

    def __init__(
        self,
        source: "str | Path | Mapping[str, Any] | RunConfig",
        *,
        overrides: Sequence[str] = (),
        out: "str | Path | None" = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = load_config(source, overrides)
        if out is not None:
            check_unused(Path(out))  # before Ray starts, which takes seconds
        problem, self.dim = check_run(self.config)
        for line in notes_on(self.config):
            on_note(line)
        self.config, self.theory = with_step_size(self.config, problem, on_note)
        self.metrics: list[Metrics] = []
        self.ledger = Ledger()
        self._seconds = 0.0
        self._closed = False
        self._failed_round: int | None = None  # after which no more can be run
        self._directory: RunDirectory | None = None
        self._measures: list[str] = []
        self._engine = _start_engine(self.config)
        try:
            tests = self._tests()
            if out is not None:
                self._directory = RunDirectory(Path(out), self.config.to_mapping())
            clock = {"clock_s": 0.0} if self.config.clock else {}
            self._record({"round": 0, "seconds": 0.0, **clock, **tests}, Ledger())
        except BaseException:
            self.close()
            raise

    @property
    def round_index(self) -> int:
        """Rounds done so far."""
        return int(self.metrics[-1]["round"])

    def run(
        self, rounds: int | None = None, *, on_round: Callable[[Metrics], None] | None = None
    ) -> Metrics:
        """Run rounds, evaluating as configured and after the last one.

        Args:
            rounds: how many; by default up to the configured number.
            on_round: called with the metrics of every round as it ends.

        Returns:
            The metrics of the last round.

        Raises:
            RoundError: a round could not be completed.
        """
        last = self.config.rounds if rounds is None else self.round_index + rounds
        while self.round_index < last:
            result = self._round()
            round_index = self.round_index + 1
            self.ledger.extend(result.ledger)
            metrics: Metrics = {
                "round": round_index,
                "seconds": round(self._seconds, 6),
            }
            if result.clock_s is not None:
                metrics["clock_s"] = result.clock_s
            if result.losses:
                metrics["train_loss"] = sum(result.losses.values()) / len(result.losses)
            try:
                if round_index % self.config.evaluate_every == 0 or round_index == last:
                    metrics |= self._tests()
            finally:  # the round is done, whatever becomes of its evaluation
                self._record(metrics, result.ledger)
            if on_round:
                on_round(self.metrics[-1])
        return self.metrics[-1]

    def evaluate(self) -> dict[str, float]:
        """Return the problem's own measures of the current parameters.

        Raises:
            ProblemError: the problem's own code failed, or its measures have changed their names.
        """
        self._check_open()
        measures = self._engine.evaluate()
        self._measures = self._measures or list(measures)
        if sorted(measures) != sorted(self._measures):
            raise ProblemError(
                f"problem: evaluate returned {list(measures)}, and at first {self._measures}: "
                "return the same measures every time"
            )
        return measures

    def parameters(self) -> Tensor:
        """Return a copy of the flat parameter vector, shape (d,)."""
        self._check_open()
        return self._engine.parameters()

    def model_state(self) -> dict[str, Any]:
        """Return the model's ``state_dict``, ready for ``problem.model().load_state_dict``."""
        self._check_open()
        return self._engine.model_state()

    def figure(self) -> "Figure":
        """Draw the run so far: accuracy, or the first measure, against bytes and rounds."""
        from launch.figures import draw, title_of  # matplotlib takes a second to import

        return draw({self.config.name: self.metrics}, title_of([self.config]))

    def save(self) -> Path:
        """Write the model into the run directory and return the file's path.

        Raises:
            ConfigError: the session has no run directory.
        """
        if self._directory is None:
            raise ConfigError("the session has no run directory: give Session(..., out=...)")
        return self._directory.write_model(self.model_state())

    def close(self) -> None:
        """End the actors and close the files; may be called twice."""
        self._closed = True
        if self._directory is not None:
            self._directory.close()
        self._engine.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _round(self) -> RoundResult:
        self._check_open()
        if self._failed_round is not None:
            raise RoundError(
                f"the session failed or was interrupted in round {self._failed_round}, in which "
                "some workers may have taken their step and some not: open a new one"
            )
        started = time.perf_counter()
        try:
            result = self._engine.round()
        except BaseException:
            self._failed_round = self.round_index
            raise
        self._seconds += time.perf_counter() - started
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise RoundError("the session is closed: open a new one")

    def _tests(self) -> dict[str, float]:
        return {f"test_{name}": value for name, value in self.evaluate().items()}

    def _record(self, metrics: Metrics, ledger: Ledger) -> None:
        sizes = {
            "uplink_bytes": self.ledger.frame_bytes("uplink"),
            "downlink_bytes": self.ledger.frame_bytes("downlink"),
        }
        self.metrics.append({**metrics, **sizes})
        if self._directory is not None:
            self._directory.write_round(self.metrics[-1], ledger)


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
    return problem, model.parameters.numel()


def _start_engine(config: RunConfig) -> Engine:
    if config.engine == "inline":
        return InlineEngine(config)
    message = shadowing_file([Path.cwd(), *config.problem.search_paths])
    if message:
        raise ConfigError(message)
    from launch.ray_engine import RayEngine  # imports Ray, which an inline run does not need

    return RayEngine(config)
