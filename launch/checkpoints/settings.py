"""When checkpoints are written, and where to, as a configuration says it."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field

from mlmc_ray.errors import ConfigError

KEPT = 2
"""Checkpoints that are kept, where nothing else is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """When checkpoints are written, and where to.

    Args:
        every: rounds between checkpoints; one is written after the last of the configured rounds
            too, and at a change.
        keep: how many of them are kept, the newest ones.
        storage: where to, in a directory of the run's own: an absolute path, or a URL of fsspec
            such as s3://bucket/runs; by default the run directory.
    """

    every: Annotated[int, Field(ge=1)]
    keep: Annotated[int, Field(ge=1)] = KEPT
    storage: str | None = None

    def __post_init__(self) -> None:
        place = self.storage
        if place is None or "://" in place or PurePosixPath(place).is_absolute():
            return
        raise ValueError(
            f"storage is {place!r}: give an absolute path, or a URL such as s3://bucket/runs"
        )


def check_same_storage(before: Checkpoints | None, after: Checkpoints | None) -> None:
    """Refuse another storage to a run that goes on.

    Raises:
        ConfigError: quotes both.
    """
    old = before.storage if before else None
    if after is not None and after.storage != old:
        raise ConfigError(
            f"checkpoints.storage is {after.storage!r}, was {old!r}: a run keeps its storage: "
            "leave it as before"
        )
