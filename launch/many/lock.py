"""One process at a time in a directory of results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from launch.locking import exclusive
from launch.run_directory import writing

NAME = ".lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a directory from all others that write results, by a file that the system locks.

    A file that a process left behind, whatever ended it, is in nobody's way.

    Args:
        out: made if need be.

    Raises:
        ConfigError: others are at work there.
    """
    path = out / NAME
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
        file = _take(path)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held, so that nobody else's is removed


def _take(path: Path) -> IO[str]:
    refusal = (
        f"{path.parent}: results are being written there: wait for the end of that, or give "
        "another --out"
    )
    while True:
        file = path.open("a")
        try:
            exclusive(file, refusal)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # who had it removed it before it was ours


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
