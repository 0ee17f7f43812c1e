"""Detects files that would be imported instead of mlmc_ray's own packages.

Ray's worker processes put the current directory in front of the path, and a task's directory is
added to it, so a ``server.py`` there would hide the package ``server``, or be hidden by it.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from mlmc_ray.errors import ConfigError

_PACKAGES = ("mlmc_ray", "workers", "server", "launch")


def check_shadowing(directories: Iterable[str | Path]) -> None:
    """Refuse directories that hold a module with the name of one of the packages.

    Raises:
        ConfigError: names the file and the package.
    """
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        ours = Path(spec.origin).resolve() if spec and spec.origin else None
        for directory in map(Path, directories):
            for candidate in (directory / f"{package}.py", directory / package / "__init__.py"):
                if candidate.is_file() and candidate.resolve() != ours:
                    raise ConfigError(
                        f"{candidate.resolve()} has the name of mlmc_ray's package {package!r} "
                        f"({ours}), and worker processes would import the wrong one: rename it, or "
                        "run from another directory"
                    )
