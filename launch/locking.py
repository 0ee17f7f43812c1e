"""A file that one process has at a time."""

import fcntl
from typing import IO, Any

from mlmc_ray.errors import ConfigError


def exclusive(file: IO[Any], refusal: str) -> None:
    """Keep an open file from all others that ask for it, until it is closed or the process ends.

    The system gives the file up with the process, whatever ended that. On a file system without
    locks nothing is kept.

    Args:
        file: open for writing; not changed. Who opens it a second time counts as another, in the
            same process too.
        refusal: what to say if another has it.

    Raises:
        ConfigError: another has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(refusal) from None
    except OSError:
        pass  # a file system without locks
