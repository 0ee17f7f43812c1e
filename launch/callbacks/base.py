"""The shape of a callback, and how several of them are called."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from launch.metrics import Metrics
from mlmc_ray.errors import ConfigError, MlmcRayError, one_line
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.session import Session


class Callback:
    """Is told of a run. Inherit from it, and override what is of interest.

    One that fails is told nothing more of the run, which goes on; the session's ``on_note`` says
    so. Its ``on_end`` is still called, at once, so that it can close what it has opened.

    A dataclass that inherits from it can stand in a configuration by its dotted path:

    >>> callbacks: [{kind: my_module.MyCallback, threshold: 3}]
    """

    def check(self, config: "RunConfig") -> None:
        """Refuse a run that could not be told of; called before anything starts.

        Raises:
            ConfigError: a package is missing, or the run lacks what is needed.
        """

    def fresh(self) -> "Callback":
        """Return what is told of one session: another object, where that needs a memory.

        A configuration, and so its callbacks, may belong to several sessions at a time.
        """
        return self

    def on_start(self, session: "Session") -> None:
        """Called before the first round; ``session.config`` says which run it is."""

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        """Called after every round.

        Args:
            session: the run.
            metrics: of the round, as in ``metrics.jsonl``.
            result: its frames, the times of the workers, and what was observed.
        """

    def on_change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        """Called after ``session.change``, with the new ``session.config`` in force.

        It cannot change the session again: callbacks after it would hear of that first.

        Args:
            session: the run.
            changed: the keys that have changed, each with its new description; as in
                ``changes.jsonl``.
        """

    def on_note(self, session: "Session", text: str) -> None:
        """Called with each line that the session has to say; not before ``on_start``."""

    def on_end(self, session: "Session", error: BaseException | None) -> None:
        """Called once, before the actors end, or as soon as this callback has failed elsewhere.

        Args:
            session: the run.
            error: what ended the run, or how this callback failed; None if all went well.
        """


class Callbacks:
    """Calls callbacks one after the other, and leaves out those that have failed.

    Args:
        callbacks: of one session; those with a memory get a new one.
        on_note: called with every line, and with one for a callback that fails.

    Raises:
        ConfigError: a callback cannot be made anew.
    """

    def __init__(self, callbacks: Sequence[Callback], on_note: Callable[[str], None]) -> None:
        self._callbacks = [_fresh(callback) for callback in callbacks]
        names = map(_name, callbacks)
        self._names = {id(fresh): n for fresh, n in zip(self._callbacks, names, strict=True)}
        self._on_note = on_note
        self._session: Session | None = None
        self._early: list[str] = []

    def start(self, session: "Session") -> None:
        """See ``Callback.on_start``; then tell what was noted before."""
        self._session = session
        self._each("on_start", lambda callback: callback.on_start(session))
        for text in self._early:
            self._tell(session, text)

    def round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        """See ``Callback.on_round``."""
        self._each("on_round", lambda callback: callback.on_round(session, metrics, result))

    def change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        """See ``Callback.on_change``; each gets a copy of its own."""
        self._each("on_change", lambda callback: callback.on_change(session, deepcopy(changed)))

    def note(self, text: str) -> None:
        """See ``Callback.on_note``; ``on_note`` hears it at once, the others once all stands."""
        self._on_note(text)
        if self._session is None:
            self._early.append(text)
        else:
            self._tell(self._session, text)

    def end(self, session: "Session", error: BaseException | None) -> None:
        """See ``Callback.on_end``; nothing if the run has not begun."""
        if self._session is not None:
            self._each("on_end", lambda callback: callback.on_end(session, error))

    def _tell(self, session: "Session", text: str) -> None:
        self._each("on_note", lambda callback: callback.on_note(session, text))

    def _each(self, name: str, call: Callable[[Callback], None]) -> None:
        for callback in list(self._callbacks):
            if not self._has(callback):  # it failed at a note of another callback
                continue
            try:
                call(callback)
            except Exception as error:
                self._leave_out(callback, name, error)

    def _has(self, callback: Callback) -> bool:
        return any(kept is callback for kept in self._callbacks)  # equal ones are not the same

    def _leave_out(self, callback: Callback, name: str, error: Exception) -> None:
        open_still = self._has(callback) and name != "on_end"
        self._callbacks = [kept for kept in self._callbacks if kept is not callback]
        self._on_note(
            f"callback {self._names[id(callback)]} failed in {name} and is told nothing more "
            f"of this run: {type(error).__name__}: {one_line(error)}"
        )
        if open_still and self._session is not None:
            with suppress(Exception):  # its failure has been noted
                callback.on_end(self._session, error)


def check_callbacks(callbacks: Sequence[Callback], config: "RunConfig") -> None:
    """Refuse a run of which a callback could not be told; see ``Callback.check``.

    Raises:
        ConfigError: names the callback.
    """
    for callback in callbacks:
        with _refusing(callback, "check"):
            callback.check(config)


def _name(callback: Callback) -> str:
    """Return a callback's kind, as in a configuration; of one's own the name of its class."""
    from launch.configuration.catalogue import KINDS  # which lists the callbacks

    kinds = {cls: kind for kind, cls in KINDS[Callback].items()}
    return kinds.get(type(callback), type(callback).__name__)


def _fresh(callback: Callback) -> Callback:
    with _refusing(callback, "fresh"):
        return callback.fresh()


@contextmanager
def _refusing(callback: Callback, name: str) -> Iterator[None]:
    """Say where a callback's own code fails before the run."""
    try:
        yield
    except MlmcRayError:
        raise
    except Exception as error:
        raise ConfigError(
            f"callbacks: {_name(callback)}.{name} failed: {type(error).__name__}: "
            f"{one_line(error)}; mend it, or leave {_name(callback)} out"
        ) from error
