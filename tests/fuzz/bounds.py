"""What an input may not do: take long, take much memory, or change anything on the disk."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

MEMORY_MIB = 128
"""How much an input may make a process grow, in address space."""
SECONDS = 2.0
"""How long an input may take, in time of the processor."""
LONGEST_ERROR = 4000
"""How many letters an error may have."""

_READING = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_LARGEFILE", 0) | os.O_NOFOLLOW
_READING |= os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOCTTY
_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
    *("os.putenv", "os.chdir", "subprocess.Popen", "socket.connect", "socket.bind", "shutil.*"),
)


class OutOfBounds(BaseException):
    """No ``Exception``, so that nothing that is tried takes it for an error of its own."""


class _Disk:
    """Whether changes are refused now; a hook of the interpreter can never be taken away."""

    hooked = False
    refusing = False


@contextmanager
def changing_nothing() -> Iterator[None]:
    """Refuse whatever writes files, starts programs or opens connections in this block.

    Raises:
        OutOfBounds: says what was tried.
    """
    if not _Disk.hooked:
        sys.addaudithook(_refuse)
        _Disk.hooked = True
    paths, writes = sys.path.copy(), sys.dont_write_bytecode
    sys.dont_write_bytecode = _Disk.refusing = True
    try:
        yield
    finally:
        _Disk.refusing = False
        sys.path[:], sys.dont_write_bytecode = paths, writes


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _Disk.refusing:
        return
    writes = event == "open" and arguments[2] is not None and arguments[2] & ~_READING
    if writes or event in _CHANGES or event.startswith("shutil."):
        raise OutOfBounds(f"{event} {arguments!r:.200}")


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process grow by ``MEMORY_MIB`` at most; a larger allocation fails."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (MEMORY_MIB << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class LimitedTime:
    """Raises ``OutOfBounds`` once its block has computed for ``SECONDS``; in the main thread."""

    def __enter__(self) -> None:
        _listen()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def __exit__(self, *error: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


@cache
def _listen() -> None:
    signal.signal(signal.SIGPROF, _too_long)


def _too_long(number: int, frame: object) -> None:
    raise OutOfBounds(f"computes for more than {SECONDS:g} s")


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, is that memory could not be had."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
