"""Detects files that are, or would be, imported instead of mlmc_ray's own packages.

A user's ``server.py`` hides the package ``server`` where its directory comes first on the path: in
Ray's worker processes that is the current directory, under ``python -m`` too. Only the standard
library is imported here, since any other import might be the wrong one.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

_PACKAGES = ("mlmc_ray", "workers", "server", "launch")
_ROOT = Path(__file__).resolve().parents[1]


def shadowing_file(directories: Iterable[str | Path] = ()) -> str | None:
    """Look for a file that takes the place of one of the packages.

    Args:
        directories: places that will come first on the path of some process.

    Returns:
        A message that names the file and the package, or None where all is well.
    """
    for package in _PACKAGES:
        ours = _ROOT / package / "__init__.py"
        spec = importlib.util.find_spec(package)
        candidates = [Path(spec.origin)] if spec and spec.origin else []
        for directory in map(Path, directories):
            candidates += [directory / f"{package}.py", directory / package / "__init__.py"]
        for candidate in candidates:
            if candidate.is_file() and candidate.resolve() != ours:
                return (
                    f"{candidate.resolve()} has the name of mlmc_ray's package {package!r} "
                    f"({ours.parent}) and is, or in worker processes would be, imported instead: "
                    "rename it, or run from another directory"
                )
    return None
