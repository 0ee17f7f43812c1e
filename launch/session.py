"""The session: one run, round by round. The command line is built on it.

Between two rounds a session can be changed, branched and moved to another engine: all that it
remembers is a ``Past``, from which a session goes on.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from launch.callbacks import Callback, Callbacks, check_callbacks
from launch.carrying import Past, changed_config, check_change, with_workers
from launch.checkpoints.keeping import Keeper
from launch.checkpoints.resuming import directory_of, resumed
from launch.configuration.fitting import notes_on
from launch.configuration.run_config import RunConfig, load_config
from launch.elastic import Lookout
from launch.engines.base import Engine, RunState
from launch.engines.cluster import ray_cluster
from launch.history import History
from launch.metrics import Metrics
from launch.recovery import Recovery
from launch.run_directory import check_unused
from launch.starting import check_run, start_engine
from launch.theory.step_size import with_step_size
from launch.wire.estimate import estimated_interface_bytes
from launch.wire.exchanges import hosts_of
from launch.wire.transport import BothWays
from mlmc_ray.errors import ClusterError, ConfigError, LostError, ProblemError, RoundError
from mlmc_ray.ledger import Ledger
from mlmc_ray.problems import Problem, initial_model
from mlmc_ray.rounds import RoundResult, Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Result = TypeVar("_Result")

__all__ = ["Session", "check_run"]


class Session:
    """One run, driven from Python.

    >>> with Session("demo/config.yaml") as session:
    ...     session.run(50)
    ...     session.evaluate()

    Args:
        source: a YAML file, a mapping, or a ``RunConfig``.
        overrides: ``a.b=c`` settings that win over the source.
        out: directory to write the run to; by default nothing is written.
        on_note: called with a line about settings that are hardly meant, about what takes long
            before the first round, or about what went otherwise than it should in a round.
        callbacks: told of the beginning, of every round and of the end; besides those of the
            configuration.
        past: of another session, to go on from; see ``branch``.

    Attributes:
        config: the resolved configuration.
        dim: number of trained parameters.
        theory: what the step size is, where the configuration says "theory", and else None.

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
        self._on_note = self._callbacks.note
        place = Path(out) if out is not None else None
        if place is not None and place != directory_of(past):
            check_unused(place)  # before Ray starts, which takes seconds
        problem = self._prepare(source)
        self._keeper = Keeper(self.config, place, past, self._on_note)
        model = initial_model(problem, self.config.seed)
        self._history = History([layer.name for layer in model.layers], past)
        self._closed = self._ending = self._pausing = self._changing = False
        self._lookout = Lookout()
        self._failed_round: int | None = None  # after which no more can be run
        state = self._carried(past) if past else None
        self._recovery = Recovery(self._on_note)
        self._recovery.begin(self.config, self._history.round_index if past else 0, state)
        self._engine = self._started(state)
        try:
            self._begin(place, past)
        except BaseException as error:
            self._end(error)
            raise

    def _prepare(self, source: "str | Path | Mapping[str, Any] | RunConfig") -> Problem:
        """Check the configuration, say what is odd about it, and find its step size."""
        try:
            problem, self.dim = check_run(self._given)
        except ConfigError as error:
            place = f"{source}: " if isinstance(source, str | Path) else ""
            raise ConfigError(f"{place}{error}") from error
        for line in notes_on(self._given):
            self._on_note(line)
        self.config, self.theory = with_step_size(self._given, problem, self._on_note)
        return problem

    def _carried(self, past: Past) -> RunState:
        state, notes = past.carried_to(self.config)
        for line in notes:
            self._on_note(line)
        return state

    def _started(self, state: RunState | None) -> Engine:
        """Start the engine; once more if an actor is lost in that."""
        while True:
            try:
                return start_engine(self.config, state, self._on_note)
            except LostError as error:
                self._recovery.count(self.config, error)
                self._on_note(f"{error}: all actors are started anew")

    def _begin(self, out: Path | None, past: Past | None) -> None:
        tests = {} if past else self._tests()
        if out is not None:
            self._history.write_to(out, self.config.to_mapping(), past, self._on_note)
            self._history.write_place(self._keeper.place_for(out))
        if past is None:
            clock = {"clock_s": 0.0} if self.config.clock else {}
            self._history.add({"round": 0, "seconds": 0.0, **clock, **tests}, RoundResult())
        else:
            self._history.write_change(past.changed_to(self.config))
        self._callbacks.start(self)

    @property
    def metrics(self) -> list[Metrics]:
        """One dict a round, as in ``metrics.jsonl``; the first is from before the first round.

        They hold round, seconds, train_loss (not the first), gradients (by all workers),
        uplink_bytes, downlink_bytes (all since the start), clock_s where there is a clock,
        step_size where there is a schedule, test_* where evaluated, relative_error where observed.
        """
        return self._history.metrics

    @property
    def ledger(self) -> Ledger:
        """Every frame so far."""
        return self._history.ledger

    def estimated_interface_bytes(self) -> BothWays:
        """Return what the frames so far come to on the interfaces of hosts, all headers included.

        An estimate, for hosts that have a node each (inline: a host for every worker);
        ``mlmc-ray wire`` measures it.
        """
        return estimated_interface_bytes(self.ledger, hosts_of(self.config))

    @property
    def repeated(self) -> Ledger:
        """Frames of rounds that were lost with a process and run again; not in the ledger."""
        return self._history.repeated

    @property
    def work(self) -> Timeline:
        """How long every worker took for every exchange so far."""
        return self._history.work

    @property
    def observations(self) -> list[dict[str, Any]]:
        """What was seen in the rounds that were observed; see ``observation_of``."""
        return self._history.observations

    @property
    def directory(self) -> Path | None:
        """Where the run is written to; None if nowhere."""
        return self._history.directory.path if self._history.directory else None

    @property
    def round_index(self) -> int:
        """Rounds done so far."""
        return self._history.round_index

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
            self._follow_nodes()
            result = self._round()
            metrics = self._history.metrics_of(result)
            if self.config.quorum is not None:
                metrics["late_reports"] = result.late_reports
            if self.config.step_sizes is not None:
                metrics["step_size"] = self.config.step_sizes.of(metrics["round"] - 1)
            try:
                if metrics["round"] % self.config.evaluate_every == 0 or metrics["round"] == last:
                    metrics |= self._tests()
            finally:  # the round is done, whatever becomes of its evaluation
                self._history.add(metrics, result)
            if self._keeper.write_if_due(self.config, self._state, self._history):
                self._recovery.written(self.round_index, self._keeper.newest)
            self._callbacks.round(self, self.metrics[-1], result)
            if on_round:
                on_round(self.metrics[-1])
        return self.metrics[-1]

    def _follow_nodes(self) -> None:
        """Have other workers from now on, if that is wanted and the nodes have changed."""
        elastic, room = self.config.elastic, None
        if elastic is not None and self._lookout.due():
            room = self._engine.room()
        if elastic is None or room is None:
            return
        wanted = elastic.wanted(room)
        if wanted not in (self.config.workers, self._lookout.refused):
            bounds = f"{elastic.least} to {elastic.most} workers"
            there = f"round {self.round_index}: the nodes have room for {room}, of {bounds}"
            number = self.config.workers
            try:
                self.scale_to(wanted)
            except (ClusterError, ConfigError, ProblemError) as error:
                self._lookout.refuse(wanted)
                self._on_note(f"{there}, and {number} workers stay: {error}")
            else:
                self._on_note(f"{there}: workers is {wanted} from now on, in place of {number}")

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
        return self._history.past(self.config, self._state())

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
            ConfigError, ProblemError, ClusterError: the session goes on as it was; only if
                changes.jsonl cannot be written, which the error says, the change is in force. Where
                others have taken the room of its actors, it can go on no more.
            RoundError: the session is closed, has failed, is being changed, or an actor is gone.
        """
        if self._changing:
            raise RoundError("the session is being changed: change it again after that")
        self._changing = True
        try:
            self._change(changed_config(self._given, overrides, settings))
        finally:
            self._changing = False

    def _change(self, given: RunConfig) -> None:
        past = self.past()
        problem = check_change(self._given, given, self.dim)
        self._keeper.check(given)
        config, theory = with_step_size(given, problem, self._on_note)
        state, notes = past.carried_to(config)
        left = self._go_on(config, state, past.state)
        self._given, self.config, self.theory = given, config, theory
        self._recovery.begin(config, self.round_index, state)
        changed = past.changed_to(config)
        with ExitStack() as afterwards:  # from last to first, whatever fails: it is in force now
            for line in reversed([*notes_on(config), *notes]):
                afterwards.callback(self._on_note, line)
            afterwards.callback(self._callbacks.change, self, changed)
            if left is not None:
                afterwards.callback(left.close)
            if config.checkpoints is not None and changed:
                afterwards.callback(self._write_checkpoint)
            self._history.write_change(changed)

    def _write_checkpoint(self) -> None:
        """Write one, or say why not."""
        if self._keeper.try_to(self.config, self._state, self._history):
            self._recovery.written(self.round_index, self._keeper.newest)

    def _go_on(self, config: RunConfig, state: RunState, before: RunState) -> Engine | None:
        """Let an engine of another configuration go on; if it cannot, all is as before.

        Returns:
            The engine that is left, to be closed; None if it is the same, or closed.
        """
        if self.config.engine != config.engine:
            left, self._engine = self._engine, start_engine(config, state, self._on_note)
            return left
        self._failed_round = self.round_index  # for as long as neither stands
        turn_to = self._reset if self._engine.suits(self.config, config) else self._replace
        try:
            turn_to(config, state)
        except BaseException:
            turn_to(self.config, before)
            self._failed_round = None
            raise
        self._failed_round = None
        return None

    def _reset(self, config: RunConfig, state: RunState) -> None:
        """Let the same actors begin another configuration; others if one of them is lost."""
        try:
            self._engine.set_up(config)
            self._engine.load(state)
        except LostError as error:
            self._on_note(f"{error}: all actors are started anew")
            self._replace(config, state)

    def _replace(self, config: RunConfig, state: RunState) -> None:
        """Start other actors once these have ended: there may be no room for both."""
        with ray_cluster(self.config.address):  # not to be started again
            self._engine.close()
            self._engine = start_engine(config, state, self._on_note)

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
        named = ["name=" + json.dumps(name), *overrides]
        given = changed_config(self._given, named, settings)
        note = self._on_note
        return Session(given, out=out, on_note=note, callbacks=callbacks, past=self.past())

    def evaluate(self) -> dict[str, float]:
        """Return the problem's own measures of the current parameters.

        Raises:
            ProblemError: the problem's own code failed, or its measures have changed their names.
        """
        self._check_open()
        measures = self._surviving(lambda: self._engine.evaluate())
        self._history.check_measures(measures)
        return measures

    def parameters(self) -> Tensor:
        """Return a copy of the flat parameter vector, shape (d,)."""
        self._check_open()
        return self._surviving(lambda: self._engine.parameters())

    def model_state(self) -> dict[str, Any]:
        """Return the model's ``state_dict``, ready for ``problem.model().load_state_dict``."""
        self._check_open()
        return self._surviving(lambda: self._engine.model_state())

    def figure(self, *others: "Session") -> "Figure":
        """Draw the run so far: accuracy, or the first measure, against bytes and rounds.

        Args:
            *others: sessions of other names, such as branches, to be drawn beside it.

        Raises:
            ConfigError: two have the same name or no measure in common, or one is no session.
        """
        from launch.display.figures import draw, title_of  # matplotlib takes a second to import

        if odd := [other for other in others if not isinstance(other, Session)]:
            raise ConfigError(f"figure: got {odd[0]!r:.80}: give sessions, as in figure(other)")
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
        return self._history.write_model(self.model_state)

    def checkpoint(self) -> str:
        """Write a checkpoint now, whatever the configuration says; return the name of its file.

        Raises:
            CheckpointError: it cannot be written; the session can go on, and those before it stay.
            ConfigError: the session has no run directory, nor a storage for checkpoints.
            RoundError: see ``past``.
        """
        self._check_usable()
        name = self._keeper.write(self.config, self._state(), self._history)
        self._recovery.written(self.round_index, self._keeper.newest)
        return name

    @classmethod
    def resume(
        cls,
        source: "str | Path",
        overrides: Sequence[str] = (),
        *,
        config: "str | Path | Mapping[str, Any] | RunConfig | None" = None,
        out: "str | Path | None" = None,
        on_note: Callable[[str], None] = lambda _: None,
        callbacks: Callback | Sequence[Callback] = (),
    ) -> "Session":
        """Return a session that goes on from a run's newest checkpoint that is whole.

        It ends as the run would have ended, bit for bit. Rounds after the checkpoint are run again;
        ``repeated`` has the frames that they had sent.

        Args:
            source: a run directory, in which the run goes on; or the path or URL of checkpoints.
            overrides: ``a.b=c`` settings, of what does not change the result: more rounds, say.
            config: of the run, if the one in the checkpoint cannot be made here.
            out: a new run directory, if the source is none.
            on_note: see ``Session``.
            callbacks: see ``Session``.

        Raises:
            CheckpointError: there is no checkpoint that is whole.
            ConfigError: the configuration differs, which names the keys; see also ``Session``.
            ProblemError, ClusterError: see ``Session``.
        """
        past = resumed(source, config, overrides, out)
        out = past.directory or out
        return cls(past.config, out=out, on_note=on_note, callbacks=callbacks, past=past)

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
            self._history.close()
            self._engine.close()

    def _round(self) -> RoundResult:
        self._check_usable()
        every = self.config.observe_every
        observe = every is not None and self.round_index % every == 0
        started = time.perf_counter()
        try:
            result = self._surviving(lambda: self._engine.round(observe=observe))
        except BaseException:
            self._failed_round = self.round_index
            raise
        self._recovery.done()
        self._history.seconds += time.perf_counter() - started
        for line in result.notes:
            self._on_note(line)
        return result

    def _state(self) -> RunState:
        return self._surviving(lambda: self._engine.state())

    def _surviving(self, action: Callable[[], _Result]) -> _Result:
        """Return what an action on the engine returns; it is repeated if actors are lost in it.

        Raises:
            RoundError: that was tried too often; or see ``action``.
        """
        lost: LostError | None = None
        while True:
            try:
                if lost is not None:
                    self._recover(lost)
                return action()
            except LostError as error:
                self._recovery.count(self.config, error)
                lost = error

    def _recover(self, lost: LostError) -> None:
        """Start all actors anew, and run the rounds again that were lost with them.

        Raises:
            RoundError: those rounds would not be the same.
        """
        started = time.perf_counter()
        first, state = self._recovery.point()
        last = self._recovery.rounds
        if first < last and not self.config.repeatable:
            remedy = "begin again, with checkpoints: {every: 50}"
            if self.config.checkpoints is not None:
                remedy = "go on from the last checkpoint, as mlmc-ray train --resume does"
            raise RoundError(
                f"{lost}: rounds {first} to {last - 1} would not be the same again, as they "
                f"depend on who is fast: {remedy}"
            ) from lost
        where = f"round {first}" if first else "the start"
        self._on_note(f"{lost}: all actors are started anew, and go on from {where}")
        with ray_cluster(self.config.address):  # not to be started again
            self._engine.close()
            self._engine = start_engine(self.config, state, self._on_note)
        same = True
        for _ in range(first, last):
            same &= self._history.repeat(self._engine.round(observe=False))
        if not same:
            self._on_note(
                "other frames were sent than the first time: shards or callbacks of the run "
                "remember something that no checkpoint holds, so the result may differ"
            )
        rounds = f", and ran {last - first} rounds again" if first < last else ""
        self._on_note(f"goes on after {time.perf_counter() - started:.1f} s{rounds}")

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
