"""Where the checkpoints of a run are."""

from pathlib import Path

from launch.checkpoints.shelf import Shelf
from launch.checkpoints.store import DirectoryStore, store_at
from launch.configuration.run_config import RunConfig
from launch.run_directory import PLACE, slug
from mlmc_ray.errors import CheckpointError, ConfigError

_INSIDE = "checkpoints"
"""Of a run directory."""


def shelf_of(config: RunConfig, out: Path | None) -> Shelf | None:
    """Return where a run's checkpoints belong; None if it is written nowhere, and has none.

    Args:
        config: of the run.
        out: its directory.

    Raises:
        ConfigError: it is to have checkpoints and has no place for them, or fsspec knows no such
            storage.
    """
    if config.checkpoints is not None and config.checkpoints.storage is not None:
        name = out.resolve().name if out is not None else slug(config.name)
        return Shelf(store_at(f"{config.checkpoints.storage.rstrip('/')}/{name}"))
    if out is not None:
        return Shelf(DirectoryStore(out / _INSIDE))
    check_place(config, None)
    return None


def check_place(config: RunConfig, shelf: Shelf | None) -> None:
    """Refuse checkpoints where there is no place for them.

    Raises:
        ConfigError: says what would do.
    """
    if config.checkpoints is not None and shelf is None:
        raise ConfigError(
            "checkpoints are to be written, and the session has no run directory: give "
            "Session(..., out=...) or checkpoints.storage, or leave checkpoints out"
        )


def new_shelf(config: RunConfig, out: Path | None) -> Shelf | None:
    """Return where the checkpoints of a run that begins belong; see ``shelf_of``.

    Raises:
        ConfigError: see ``shelf_of``; or there are some already.
        CheckpointError: the place cannot be read.
    """
    shelf = shelf_of(config, out)
    if shelf is not None:
        shelf.check_empty()
    return shelf


def shelf_in(source: "str | Path") -> tuple[Shelf, Path | None]:
    """Return the checkpoints of a run, and its directory if that is what was given.

    Args:
        source: a run directory, or the path or URL of checkpoints.

    Raises:
        CheckpointError: there is nothing.
        ConfigError: fsspec does not know the URL.
    """
    if "://" in str(source):
        return Shelf(store_at(str(source))), None
    path = Path(source)
    if not (path / "config.yaml").exists():
        if not path.is_dir():
            raise CheckpointError(f"{path} is no directory: give that of a run, or its checkpoints")
        return Shelf(DirectoryStore(path)), None
    if (path / PLACE).exists():
        return Shelf(store_at((path / PLACE).read_text(encoding="utf-8").strip())), path
    return Shelf(DirectoryStore(path / _INSIDE)), path


def place_for(shelf: Shelf, out: Path) -> str | None:
    """Return what a run directory notes of where its checkpoints are; None if they are inside."""
    place = shelf.store.place
    if place == str(out / _INSIDE):
        return None
    return place if "://" in place else str(Path(place).absolute())
