"""What callbacks need before a run: packages, and a directory of its own."""

import importlib
from datetime import datetime
from pathlib import Path
from typing import Any

from launch.run_directory import slug
from mlmc_ray.errors import ConfigError, one_line


def package(name: str, kind: str) -> Any:
    """Import a package that few runs need.

    Args:
        name: of the module.
        kind: of the callback that needs it.

    Raises:
        ConfigError: names the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"callbacks: {kind} needs the package {name.partition('.')[0]!r}, which cannot be "
            f"imported ({one_line(error)}): pip install 'mlmc-ray[tracking]', or leave {kind} out"
        ) from error


def directory_of(parent: str | Path, name: str) -> Path:
    """Return a directory below ``parent`` that tells runs of one name apart by their time."""
    return Path(parent) / f"{slug(name)}-{datetime.now():%Y%m%d-%H%M%S-%f}"
