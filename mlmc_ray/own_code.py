"""Which line of a user's own code an exception comes from."""

import os
import sysconfig
import traceback
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_NOT_OWN = tuple(
    f"{directory}{os.sep}"
    for directory in (
        *(_ROOT / room for room in ("mlmc_ray", "workers", "server", "launch")),
        *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")),
    )
)
"""Where the lines of a traceback are not the user's own."""


def own_place(error: BaseException) -> str:
    """Return " (file, line n, in function)" for the last line of the user's code, or nothing.

    Generated code, as of a dataclass, which has no file, does not count.

    Args:
        error: as it was caught; the frame that caught it does not count.
    """
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if not frame.filename.startswith((*_NOT_OWN, "<string>"))]
    return f" ({own[-1].filename}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
