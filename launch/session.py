"""The session: one run, round by round. The command line is built on it.

Between two rounds a session can be changed, branched and moved to another engine: all that it
remembers is a ``Past``, from which a session goes on.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from launch.callbacks import Callback, Callbacks, check_callbacks
from launch.carrying import Past, carried, changes, settings_of, with_workers
from launch.configuration.composition import merged
from launch.configuration.fitting import check_fit, notes_on
from launch.configuration.run_config import RunConfig, load_config
from launch.engines.base import Engine, RunState
from launch.engines.inline import InlineEngine
from launch.metrics import Metrics, measure_names
from launch.observations import observation_of, relative_error
from launch.run_directory import RunDirectory, check_unused
from launch.shadowing import shadowing_file
from launch.theory.step_size import check_step_size, with_step_size
from mlmc_ray.errors import ConfigError, ProblemError, RoundError
from mlmc_ray.ledger import Ledger
from mlmc_ray.problems import Problem, initial_model
from mlmc_ray.rounds import RoundResult, Work

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
        callbacks: told of the beginning, of every round and of the end; besides those of the
            configuration.
        past: of another session, to go on from; see ``branch``.

    Attributes:
        config: the resolved configuration.
        dim: number of trained parameters.
        theory: what the step size is, where the configuration says "theory", and else None.
        metrics: one dict a round, as in ``metrics.jsonl``: round, seconds, train_loss,
            gradients (by all workers), uplink_bytes, downlink_bytes (all since the start), clock_s
            where there is a clock, test_* where evaluated, relative_error where observed. The first
            is from before the first round, and has no train_loss.
        ledger: every frame so far.
        work: how long every worker took for every exchange so far.
        observations: what was seen in the rounds that were observed; see ``observation_of``.

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
        callbacks: Callback | Sequence[Callback] = (),
        past: Past | None = None,
    ) -> None:
        callbacks = [callbacks] if isinstance(callbacks, Callback) else callbacks
        self._given = load_config(source, overrides)
        check_callbacks(callbacks, self._given)
        self._callbacks = Callbacks([*self._given.callbacks, *callbacks], on_note)
        on_note = self._on_note = self._callbacks.note
        if out is not None:
            check_unused(Path(out))  # before Ray starts, which takes seconds
        try:
            problem, self.dim = check_run(self._given)
        except ConfigError as error:
            place = f"{source}: " if isinstance(source, str | Path) else ""
            raise ConfigError(f"{place}{error}") from error
        for line in notes_on(self._given):
            on_note(line)
        self.config, self.theory = with_step_size(self._given, problem, on_note)
        self.metrics: list[Metrics] = [dict(m) for m in past.metrics] if past else []
        self.ledger = Ledger(past.ledger if past else ())
        self.work: list[Work] = list(past.work) if past else []
        self.observations: list[dict[str, Any]] = list(past.observations) if past else []
        self._seconds = past.seconds if past else 0.0
        self._num_gradients = self.metrics[-1].get("gradients", 0) if past else 0
        self._closed = self._ending = False
        self._pausing = False
        self._failed_round: int | None = None  # after which no more can be run
        self._directory: RunDirectory | None = None
        self._measures = _measures_in(self.metrics)
        state = None
        if past:
            state, notes = carried(past.state, past.config, self.config)
            for line in notes:
                on_note(line)
        self._layers = [layer.name for layer in initial_model(problem, self.config.seed).layers]
        self._engine = _start_engine(self.config)
        try:
            if state:
                self._engine.load(state)
            self._begin(out, past)
        except BaseException as error:
            self._end(error)
            raise

    def _begin(self, out: "str | Path | None", past: Past | None) -> None:
        tests = {} if past else self._tests()
        if out is not None:
            self._directory = RunDirectory(Path(out), self.config.to_mapping())
        if past is None:
            clock = {"clock_s": 0.0} if self.config.clock else {}
            self._record({"round": 0, "seconds": 0.0, **clock, **tests}, RoundResult())
        elif self._directory is not None:
            self._directory.write_past(past)
            self._directory.write_change(self.round_index, changes(past.config, self.config))
        self._callbacks.start(self)

    @property
    def directory(self) -> Path | None:
        """Where the run is written to; None if nowhere."""
        return self._directory.path if self._directory else None

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
            ConfigError: ``rounds`` is negative.
            RoundError: a round could not be completed.
        """
        if rounds is not None and rounds < 0:
            raise ConfigError(f"rounds is {rounds}: give how many to run, at least 0")
        last = self.config.rounds if rounds is None else self.round_index + rounds
        self._pausing = False
        while self.round_index < last and not self._pausing:
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
            self._num_gradients += result.num_gradients
            metrics["gradients"] = self._num_gradients
            error = relative_error(result)
            if error is not None:
                metrics["relative_error"] = error
            try:
                if round_index % self.config.evaluate_every == 0 or round_index == last:
                    metrics |= self._tests()
            finally:  # the round is done, whatever becomes of its evaluation
                self._record(metrics, result)
            self._callbacks.round(self, self.metrics[-1], result)
            if on_round:
                on_round(self.metrics[-1])
        return self.metrics[-1]

    def pause(self) -> None:
        """Let ``run`` return after the round that it is in; from another thread, or a callback.

        That round is evaluated only if it would have been. Nothing happens if none is running.
        """
        self._pausing = True

    @property
    def pausing(self) -> bool:
        """Whether ``run`` is to return, or has returned, since ``pause`` was called."""
        return self._pausing

    def past(self) -> Past:
        """Return a copy of all that the session remembers, to go on from.

        Raises:
            RoundError: the session is closed, has failed, or an actor is gone.
        """
        self._check_usable()
        return Past(
            config=self.config,
            state=self._engine.state(),
            metrics=tuple(self.metrics),
            ledger=tuple(self.ledger),
            work=tuple(self.work),
            observations=tuple(self.observations),
            seconds=self._seconds,
        )

    def change(self, overrides: Sequence[str] = (), **settings: Any) -> None:
        """Go on with another configuration: compressor, method, step size, workers, engine ...

        Parameters and running statistics stay, and so does what the method and the optimizer
        remember, where it still fits (see ``carried``); ``on_note`` is told of what starts anew.
        With other workers the data is dealt out anew.

        >>> session.change(["method.compressor.k=0.05"], workers=16)

        Args:
            overrides: ``a.b=c`` settings, as on the command line.
            **settings: keys of the configuration; values may be objects. A mapping is merged into
                what is there, unless its kind is another.

        Raises:
            ConfigError, ProblemError, ClusterError: the session goes on as it was.
            RoundError: the session is closed, has failed, or an actor is gone.
        """
        past = self.past()
        given = self._changed(overrides, settings)
        if given.callbacks != self._given.callbacks:
            raise ConfigError(
                "callbacks has changed: a session keeps its callbacks from beginning to end; "
                "branch, or open a new session"
            )
        problem, dim = check_run(given)
        if dim != self.dim:
            raise ConfigError(
                f"problem has changed, and has {dim} parameters instead of {self.dim}: open a new "
                "session"
            )
        config, theory = with_step_size(given, problem, self._on_note)
        state, notes = carried(past.state, past.config, config)
        self._go_on(config, state, past.state)
        for line in [*notes_on(config), *notes]:
            self._on_note(line)
        changed = changes(self.config, config)
        self._given, self.config, self.theory = given, config, theory
        if self._directory is not None:
            self._directory.write_change(self.round_index, changed)

    def _go_on(self, config: RunConfig, state: RunState, before: RunState) -> None:
        """Let an engine of another configuration go on; if it cannot, all is as before."""
        if not self._engine.suits(self.config, config):
            other = _start_engine(config)
            try:
                other.load(state)
            except BaseException:
                other.close()
                raise
            self._engine.close()
            self._engine = other
            return
        self._failed_round = self.round_index  # for as long as neither stands
        try:
            self._engine.set_up(config)
            self._engine.load(state)
        except BaseException:
            self._engine.set_up(self.config)
            self._engine.load(before)
            self._failed_round = None
            raise
        self._failed_round = None

    def scale_to(self, num_workers: int) -> None:
        """Go on with so many workers; see ``change``.

        A problem with a function for every worker, such as a quadratic, gets as many functions.
        """
        self.change(with_workers(self._given, num_workers))

    def branch(
        self,
        name: str,
        overrides: Sequence[str] = (),
        *,
        out: "str | Path | None" = None,
        callbacks: Callback | Sequence[Callback] = (),
        **settings: Any,
    ) -> "Session":
        """Return another session that goes on from here, with changes if any; this one stays.

        Args:
            name: of the new session.
            overrides: see ``change``.
            out: its directory.
            callbacks: told of it, besides those of the configuration; those that this session has
                got from Python are not.
            **settings: see ``change``.

        Raises:
            ConfigError, ProblemError, ClusterError, RoundError: see ``change`` and ``Session``.
        """
        given = self._changed(["name=" + json.dumps(name), *overrides], settings)
        note = self._on_note
        return Session(given, out=out, on_note=note, callbacks=callbacks, past=self.past())

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

    def _changed(self, overrides: Sequence[str], settings: Mapping[str, Any]) -> RunConfig:
        own = ["name=" + json.dumps(self._given.name)] if "name" not in settings else []
        return load_config(merged(settings_of(self._given), dict(settings)), [*own, *overrides])

    def figure(self, *others: "Session") -> "Figure":
        """Draw the run so far: accuracy, or the first measure, against bytes and rounds.

        Args:
            *others: sessions of other names, such as branches, to be drawn beside it.

        Raises:
            ConfigError: two have the same name, or no measure in common.
        """
        from launch.display.figures import draw, title_of  # matplotlib takes a second to import

        sessions = (self, *others)
        runs = {session.config.name: session.metrics for session in sessions}
        if len(runs) < len(sessions):
            names = [session.config.name for session in sessions]
            raise ConfigError(f"figure: two of {names} are the same: give each session its name")
        return draw(runs, title_of([session.config for session in sessions]))

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
        self._end(None)

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        first, self._ending = not self._ending, True
        try:
            if first:
                self._callbacks.end(self, error)
        finally:
            self._closed = True
            if self._directory is not None:
                self._directory.close()
            self._engine.close()

    def _round(self) -> RoundResult:
        self._check_usable()
        every = self.config.observe_every
        observe = every is not None and self.round_index % every == 0
        started = time.perf_counter()
        try:
            result = self._engine.round(observe=observe)
        except BaseException:
            self._failed_round = self.round_index
            raise
        self._seconds += time.perf_counter() - started
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise RoundError("the session is closed: open a new one")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failed_round is not None:
            raise RoundError(
                f"the session failed or was interrupted in round {self._failed_round}, in which "
                "some workers may have taken their step and some not: open a new one"
            )

    def _tests(self) -> dict[str, float]:
        return {f"test_{name}": value for name, value in self.evaluate().items()}

    def _record(self, metrics: Metrics, result: RoundResult) -> None:
        sizes = {
            "uplink_bytes": self.ledger.frame_bytes("uplink"),
            "downlink_bytes": self.ledger.frame_bytes("downlink"),
        }
        self.metrics.append({**metrics, **sizes})
        self.work += result.work
        seen = observation_of(metrics["round"], result, self._layers)
        if seen is not None:
            self.observations.append(seen)
        if self._directory is not None:
            self._directory.write_round(self.metrics[-1], result.ledger, result.work, seen)


def _measures_in(metrics: Sequence[Metrics]) -> list[str]:
    """Return the names of the measures of the first evaluation, if there was one."""
    return next(filter(None, map(measure_names, metrics)), [])


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


def _start_engine(config: RunConfig) -> Engine:
    if config.engine == "inline":
        return InlineEngine(config)
    message = shadowing_file([Path.cwd(), *config.problem.search_paths])
    if message:
        raise ConfigError(message)
    from launch.engines.ray_engine import (
        RayEngine,  # imports Ray, which an inline run does not need
    )

    return RayEngine(config)
