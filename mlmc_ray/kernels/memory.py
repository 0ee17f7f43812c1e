"""The memory of a process that does the same work every round."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 1 << 30


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, up to blocks of 1 GiB, for the next round.

    By default glibc hands large blocks back to the system, and every round faults all pages of its
    vectors in anew, which takes longer than the arithmetic on them. Elsewhere nothing changes.
    """
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
