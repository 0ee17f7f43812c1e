"""The results of a job: an archive beside its log, and the way back from there.

Ray serves the files of its log directory through the dashboard, so the job leaves two there:
``<job>-results.zip``, and ``<job>-results.json``, which says how long it is and what its SHA-256
is, and is written last.
"""

import hashlib
import json
import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from launch.display.units import format_bytes
from launch.run_directory import writing
from mlmc_ray.errors import ClusterError, ConfigError, one_line

_LONGEST_MANIFEST = 10_000
_LARGEST = 10**10
"""Bytes of all files together, unpacked."""

_BLOCK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,  # encrypted, or packed in a way that is not known
    ValueError,  # names that are not UTF-8
    OSError,  # how bzip2 says it
)
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an archive must be.

    Args:
        num_bytes: its length.
        sha256: of it, 64 hexadecimal digits.

    Raises:
        ValueError: a value cannot be one.
    """

    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if type(self.num_bytes) is not int or self.num_bytes < 0:
            raise ValueError(f"num_bytes is {self.num_bytes!r}: expected a length")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r:.80}: expected 64 hexadecimal digits")


class Source(Protocol):
    """Where the files of a job's log directory can be read."""

    def read_log_file(self, job_id: str, name: str, sink: IO[bytes], longest: int) -> None:
        """Copy a file, of at most so many bytes, into ``sink``."""


def archive_name(job_id: str) -> str:
    """Return the name of a job's archive."""
    return f"{job_id}-results.zip"


def manifest_name(job_id: str) -> str:
    """Return the name of the file that describes a job's archive."""
    return f"{job_id}-results.json"


def pack(directory: Path, job_id: str, where: Path) -> Manifest:
    """Put the files of a directory into an archive, and then its manifest beside it.

    Where there are no files there is no archive, and the manifest says that it has no bytes.

    Args:
        directory: with the results; may be empty.
        job_id: of the job.
        where: the directory that gets both files.
    """
    manifest = Manifest(num_bytes=0, sha256=hashlib.sha256().hexdigest())
    if paths := [path for path in sorted(directory.rglob("*")) if path.is_file()]:
        archive = where / archive_name(job_id)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as file:
            for path in paths:
                file.write(path, path.relative_to(directory).as_posix())
        manifest = Manifest(num_bytes=archive.stat().st_size, sha256=_sha256(archive))
    partial = where / f"{manifest_name(job_id)}.partial"
    partial.write_text(json.dumps(asdict(manifest)) + "\n")
    partial.rename(where / manifest_name(job_id))
    return manifest


def fetch_results(source: Source, job_id: str, out: Path) -> int:
    """Bring the results of a job back.

    Args:
        source: the cluster's dashboard.
        job_id: of a job that has ended.
        out: directory for them; made if need be, must hold none of the files.

    Returns:
        How many files there are.

    Raises:
        ClusterError: they cannot be read, or did not arrive as they were sent.
        ConfigError: ``out`` cannot be written, or there is no room for them.
    """
    with tempfile.TemporaryFile() as described:
        source.read_log_file(job_id, manifest_name(job_id), described, _LONGEST_MANIFEST)
        described.seek(0)
        try:
            manifest = Manifest(**json.loads(described.read()))
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged(job_id, f"{manifest_name(job_id)}: {one_line(error)}") from error
    if not manifest.num_bytes:
        return 0
    _check_size(manifest.num_bytes, Path(tempfile.gettempdir()), job_id)
    with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
        source.read_log_file(job_id, archive_name(job_id), archive.file, manifest.num_bytes)
        archive.flush()
        path = Path(archive.name)
        if path.stat().st_size != manifest.num_bytes or _sha256(path) != manifest.sha256:
            raise _damaged(job_id, "the archive's length or SHA-256 is another than was sent")
        return unpack(path, out, job_id)


def unpack(archive: Path, out: Path, job_id: str) -> int:
    """Write the files of an archive below a directory, and nowhere else.

    Returns:
        How many files there were.

    Raises:
        ClusterError: it is no archive, is damaged, holds more than 10 GB, or a file in it would
            lie elsewhere.
        ConfigError: a file is there already, or cannot be written, or there is no room for all.
    """
    with _reading(job_id), zipfile.ZipFile(archive) as file:
        members = [member for member in file.infolist() if not member.is_dir()]
        _check_names([member.filename for member in members], out, job_id)
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        _check_size(sum(member.file_size for member in members), out, job_id)
        for member in members:
            _write(file, member, out / member.filename, job_id)
        return len(members)


def _write(file: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, job_id: str) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as sink:
            for block in _blocks(file, member, job_id):
                sink.write(block)


def _blocks(file: zipfile.ZipFile, member: zipfile.ZipInfo, job_id: str) -> Iterator[bytes]:
    """Yield a file of an archive; ``zipfile`` yields no more than ``member.file_size`` bytes."""
    with _reading(job_id), file.open(member) as packed:
        while block := packed.read(_BLOCK):
            yield block


@contextmanager
def _reading(job_id: str) -> Iterator[None]:
    """Say plainly that an archive cannot be read; what is said already passes."""
    try:
        yield
    except _DAMAGE as error:
        raise _damaged(job_id, f"the archive is damaged: {one_line(error)}") from error


def check_empty(out: Path) -> None:
    """Refuse a directory that holds files already, before anything is run for it.

    Raises:
        ConfigError: names it.
    """
    with writing(out):
        used = out.exists() and any(out.iterdir())
    if used:
        raise ConfigError(f"{out} is not empty: give another --out")


def _check_names(names: Sequence[str], out: Path, job_id: str) -> None:
    """Refuse files that would lie elsewhere, or in the place of others."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or set(name) & set("\\:\0"):
            raise _damaged(job_id, f"{name!r:.200} would lie outside of the directory")
        with writing(out):
            used = (out / name).exists()
        if used:
            raise ConfigError(f"{out / name} is there: give another --out")
    if len({PurePosixPath(name) for name in names}) < len(names):
        raise _damaged(job_id, "the archive holds a file twice")


def _check_size(num_bytes: int, place: Path, job_id: str) -> None:
    """Refuse more bytes than results have, or than a directory has room for."""
    if num_bytes > _LARGEST:
        raise ClusterError(
            f"the results of {job_id} are {format_bytes(num_bytes)}, and at most "
            f"{format_bytes(_LARGEST)} come back: run with --out-on-cluster PATH"
        )
    with writing(place):
        free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise ConfigError(
            f"{place} has room for {format_bytes(free)}, and the results of {job_id} are "
            f"{format_bytes(num_bytes)}: free some there, and try again with --attach {job_id}"
        )


def _damaged(job_id: str, reason: str) -> ClusterError:
    return ClusterError(f"the results of {job_id} are not as they should be: {reason}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
