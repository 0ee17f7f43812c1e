"""One process at a time in a directory of results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launch.run_directory import writing
from mlmc_ray.errors import ConfigError

NAME = ".lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a directory from other processes that write results, by a file that holds our pid.

    The file of a process that has ended without removing it is taken over. Processes of other
    machines are not told apart from those of this one.

    Args:
        out: made if need be.

    Raises:
        ConfigError: another process is at work there; names its pid.
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
        file.write(str(os.getpid()))


def _remove_stale(path: Path) -> None:
    """Remove the file of a process that has ended.

    Raises:
        ConfigError: it has not.
    """
    holder = ""
    with suppress(FileNotFoundError):
        holder = path.read_text()
        if holder.isdecimal() and not _alive(int(holder)):
            path.unlink()
            return
    if path.exists():
        raise ConfigError(
            f"{path.parent}: process {holder or 'unknown'} writes results there: wait for its end, "
            f"give another --out, or delete {path} if it is no process of mlmc-ray"
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return True
