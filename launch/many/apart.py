"""Calls in processes of their own, some at a time."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from mlmc_ray.errors import MlmcRayError, RoundError, one_line

Tell = Callable[[Any], None]
"""Sends a piece of news to who waits for the result."""

Function = Callable[[Any, Tell], Any]
"""A function of a module, of a task, and of what tells of progress."""

OnNews = Callable[[int, Any], None]
"""Is told the index of a task, and a piece of its news."""

OnResult = Callable[[int, Any], None]
"""Is told the index of a task, and its result."""

_PRELOADED = ["launch.many.preload"]


@dataclass(slots=True)
class _Child:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    task: int = -1


def run_apart(
    function: Function,
    tasks: Sequence[Any],
    *,
    processes: int = 1,
    fresh: bool = False,
    on_news: OnNews = lambda task, news: None,
    on_result: OnResult = lambda task, result: None,
) -> None:
    """Call a function on every task, in other processes, which end with this call.

    Processes are forked from one that has imported what they need and done nothing else, where the
    system allows it, and otherwise start from nothing.

    Args:
        function: called with a task and with what sends news.
        tasks: anything that can be pickled.
        processes: how many at a time.
        fresh: whether every task has a process of its own, for measurements of its memory.
        on_news: called here with the index of a task and what it tells.
        on_result: called here with the index of a task and what its call returned.

    Raises:
        MlmcRayError: as raised by a call, which ends all others.
        RoundError: a process has ended, or has not enough memory.
        RuntimeError: a call raised anything else; holds its traceback.
    """
    context = _context()
    waiting = list(range(len(tasks)))[::-1]
    children: list[_Child] = []
    try:
        while waiting or children:
            while waiting and len(children) < processes:
                children.append(_started(context, function))
                _give(children[-1], waiting.pop(), tasks)
            for ready in wait([child.connection for child in children]):
                child = next(child for child in children if child.connection is ready)
                kind, value = _received(child)
                if kind == "news":
                    on_news(child.task, value)
                    continue
                on_result(child.task, value)
                if waiting and not fresh:
                    _give(child, waiting.pop(), tasks)
                else:
                    children.remove(child)
                    _end(child)
    finally:
        for child in children:
            _end(child)


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _started(context: Any, function: Function) -> _Child:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    return _Child(process, ours)


def _give(child: _Child, task: int, tasks: Sequence[Any]) -> None:
    child.task = task
    try:
        child.connection.send(tasks[task])
    except ConnectionError:
        raise _ended(child) from None


def _received(child: _Child) -> tuple[Literal["news", "result"], Any]:
    try:
        kind, value = child.connection.recv()
    except (EOFError, ConnectionError):
        raise _ended(child) from None
    if kind == "error":
        raise value if isinstance(value, MlmcRayError) else RuntimeError(value)
    return kind, value


def _ended(child: _Child) -> RoundError:
    child.process.join()
    return RoundError(
        f"the process of a run has ended with exit code {child.process.exitcode}: -9 is mostly "
        "lack of memory: run fewer at a time, or smaller ones; with 1, a script of one's own lacks "
        'if __name__ == "__main__" around its calls'
    )


def _end(child: _Child) -> None:
    child.connection.close()
    child.process.terminate()
    child.process.join()


def _serve(connection: Connection, function: Function) -> None:
    """Answer tasks until nobody asks any more; the body of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    try:
        while True:
            connection.send(_answer(function, connection.recv(), connection))
    except (EOFError, ConnectionError):
        return


def _answer(function: Function, task: Any, connection: Connection) -> tuple[str, Any]:
    try:
        return "result", function(task, lambda news: connection.send(("news", news)))
    except MlmcRayError as error:
        return "error", error
    except ConnectionError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return "error", RoundError(f"{one_line(error)}: out of memory: run smaller ones")
        return "error", traceback.format_exc()
