"""One process at a time in a directory of results."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launch.run_directory import writing
from mlmc_ray.errors import ConfigError

NAME = ".lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a directory from other processes that write results, by a file with pid and machine.

    The file of a process of this machine that has ended without removing it is taken over.

    Args:
        out: made if need be.

    Raises:
        ConfigError: another process is at work there, or one of another machine may be; names it.
    """
    path = out / NAME
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
        _take(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take(path: Path) -> None:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        _remove_stale(path)
        _take(path)
        return
    with os.fdopen(handle, "w") as file:
        file.write(f"{os.getpid()} {platform.node()}")


def _remove_stale(path: Path) -> None:
    """Remove the file of a process of this machine that has ended.

    Raises:
        ConfigError: it has not, or nobody here can tell.
    """
    holder = node = ""
    with suppress(FileNotFoundError):
        holder, _, node = path.read_text().partition(" ")
        here = node == platform.node()
        if here and holder.isdecimal() and not _alive(int(holder)):
            path.unlink()
            return
    if path.exists():
        raise ConfigError(
            f"{path.parent}: process {holder or 'unknown'} of machine {node or 'unknown'} writes "
            f"results there: wait for its end, give another --out, or delete {path} if it is no "
            "longer at work"
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return True
