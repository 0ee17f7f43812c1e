"""Where the files of checkpoints are: a directory, or a storage that fsspec knows."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from launch.checkpoints.frame import Piece
from mlmc_ray.errors import CheckpointError, ConfigError, one_line

_DRAFT = "draft"


class Store(Protocol):
    """Files by name.

    Attributes:
        place: where they are, in words.

    All methods raise a ``CheckpointError`` if it cannot be done.
    """

    place: str

    def names(self) -> list[str]:
        """Return the names of all files; none where there is no such place yet."""

    def read(self, name: str) -> bytes | None:
        """Return a file; None if there is no such file."""

    def write(self, name: str, pieces: Sequence[Piece]) -> None:
        """Write a file; one that was there is replaced as a whole, or stays as it is."""

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""


def store_at(place: str) -> Store:
    """Return the store at a path or a URL.

    Raises:
        ConfigError: fsspec does not know the URL, or is not installed.
    """
    return RemoteStore(place) if "://" in place else DirectoryStore(Path(place))


class DirectoryStore:
    """Files in a directory, which is made for the first one.

    Args:
        path: of the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def names(self) -> list[str]:
        """See ``Store``."""
        with _explaining(self.place, "read"):
            try:
                return sorted(os.listdir(self._path))
            except (FileNotFoundError, NotADirectoryError, ValueError):
                return []  # and if nothing can be there, who writes says why

    def read(self, name: str) -> bytes | None:
        """See ``Store``."""
        with _explaining(f"{self.place}/{name}", "read"):
            try:
                return (self._path / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, pieces: Sequence[Piece]) -> None:
        """Write a draft, wait until the disk has it, and give it its name."""
        with _explaining(f"{self.place}/{name}", "written"):
            self._path.mkdir(parents=True, exist_ok=True)
            draft = self._path / _DRAFT
            with draft.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path / name)
            directory = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def delete(self, name: str) -> None:
        """See ``Store``."""
        with _explaining(f"{self.place}/{name}", "deleted"):
            (self._path / name).unlink(missing_ok=True)


class RemoteStore:
    """Files at a URL of fsspec.

    A file that is not written to its end appears only on some file systems; its checksum tells.

    Args:
        url: such as s3://bucket/runs.

    Raises:
        ConfigError: see ``store_at``.
    """

    def __init__(self, url: str) -> None:
        self.place = url
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ConfigError(
                f"checkpoints at {url} need fsspec: pip install 'mlmc-ray[storage]', or give a path"
            ) from None
        try:
            self._files, root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"checkpoints at {url}: {one_line(error)}: give a URL that fsspec knows, with the "
                "package for it, or a path"
            ) from error
        self._root: str = root.rstrip("/")

    def names(self) -> list[str]:
        """See ``Store``."""
        with _explaining(self.place, "read"):
            self._files.invalidate_cache()
            try:  # its exists() takes a storage that does not answer for an empty one
                found: list[Any] = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes | None:
        """See ``Store``."""
        with _explaining(f"{self.place}/{name}", "read"):
            try:
                return bytes(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, pieces: Sequence[Piece]) -> None:
        """See ``Store``."""
        with _explaining(f"{self.place}/{name}", "written"):
            self._files.makedirs(self._root, exist_ok=True)
            with self._files.open(f"{self._root}/{name}", "wb") as file:
                for piece in pieces:
                    file.write(piece)

    def delete(self, name: str) -> None:
        """See ``Store``."""
        with _explaining(f"{self.place}/{name}", "deleted"), suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")


@contextmanager
def _explaining(place: str, done: str) -> Iterator[None]:
    """Say what cannot be done where; what storages raise is of many classes.

    Raises:
        CheckpointError: names the place and the reason.
    """
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
        raise CheckpointError(f"{place}: cannot be {done}: {reason}") from error
