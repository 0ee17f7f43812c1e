"""How the hot loops are compiled: by numba, once a machine, without Python's lock.

What is compiled is kept outside of the package: pip does not remove files that it has not written,
and the directory that they would keep alive hides an editable installation that comes after.
"""

import logging
import os
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")
_CONFIG: Any = numba.config  # whose values are made when it is imported


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function of numbers and NumPy arrays on its first call, and cache the result."""
    place = cache_directory()
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = str(place or "")  # read while decorating, and not later
    try:
        compiler = numba.njit(cache=place is not None, nogil=True, error_model="numpy")
        result: Callable[_P, _R] = compiler(function)
    finally:
        _CONFIG.CACHE_DIR = before
    return result


@cache
def cache_directory() -> Path | None:
    """Return where compiled kernels are kept, or None where nothing can be written.

    It is NUMBA_CACHE_DIR if that is set, or else ``mlmc-ray`` in XDG_CACHE_HOME or ``~/.cache``.
    Where it cannot be written, as in a container whose home is read-only, it is a directory of the
    user's own among the temporary files, and a line in the log says so.
    """
    wanted = wanted_directory()
    if _writable(wanted):
        return wanted
    found = _temporary()
    instead = f"kept in {found}" if found else "compiled again by every process"
    logging.getLogger(__name__).warning(
        "%s cannot be written: kernels are %s; set NUMBA_CACHE_DIR to a directory that can",
        wanted,
        instead,
    )
    return found


def number_kept() -> int:
    """Return how many kernels are kept; without any, the first round waits for the compiler."""
    place = cache_directory()
    return 0 if place is None else sum(1 for _ in place.rglob("*.nbi"))


def wanted_directory() -> Path:
    """Return where compiled kernels belong, whether or not it can be written."""
    if given := _CONFIG.CACHE_DIR:
        return Path(given)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.path.expanduser(caches), "mlmc-ray")


def _temporary() -> Path | None:
    """Return a directory for temporary files that only the user can write, or None.

    What is cached is unpickled: nobody else may have put it there.
    """
    if not hasattr(os, "getuid"):
        return None
    try:
        place = Path(tempfile.gettempdir(), f"mlmc-ray-{os.getuid()}")
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    return place if private and status.st_uid == os.getuid() and _writable(place) else None


def _writable(place: Path) -> bool:
    """Say whether files can be made in a directory, which is made if need be."""
    if str(place).startswith("~"):
        return False  # nobody knows where the home directory is
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False
