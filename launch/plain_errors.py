"""Expected errors as one line and an exit code."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from launch.shadowing import shadowing_file
from mlmc_ray.errors import ConfigError, MlmcRayError, ProblemError, one_line


@contextmanager
def plain_errors(console: Console, traceback: bool = False) -> Iterator[None]:
    """Turn expected errors into one message and an exit code; end cleanly when interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if message := shadowing_file():
            raise ConfigError(message)
        yield
    except MlmcRayError as error:
        if traceback:
            console.print_exception()
        sys.stdout.flush()
        print(f"error: {one_line(error, 2000)}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigError | ProblemError) else 1) from None
    except KeyboardInterrupt:
        sys.stdout.flush()
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
