"""The results of a job: an archive beside its log, and the way back from there.

Ray serves the files of its log directory through the dashboard, so the job leaves two there:
``<job>-results.zip``, and ``<job>-results.json``, which says how long it is and what its SHA-256
is, and is written last.
"""

import hashlib
import json
import re
import tempfile
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from launch.run_directory import writing
from mlmc_ray.errors import ClusterError, ConfigError, one_line

_LONGEST_MANIFEST = 10_000
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

    Args:
        directory: with the results; may be empty.
        job_id: of the job.
        where: the directory that gets both files.
    """
    archive = where / archive_name(job_id)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as file:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
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
        ClusterError: there are none, or they did not arrive as they were sent.
        ConfigError: ``out`` cannot be written.
    """
    with tempfile.TemporaryFile() as described:
        source.read_log_file(job_id, manifest_name(job_id), described, _LONGEST_MANIFEST)
        described.seek(0)
        try:
            manifest = Manifest(**json.loads(described.read()))
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged(job_id, f"{manifest_name(job_id)}: {one_line(error)}") from error
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
        ClusterError: it is no archive, or a file in it would lie elsewhere.
        ConfigError: a file is there already, or cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            for member in members:
                _check_name(member.filename, job_id)
                if (out / member.filename).exists():
                    raise ConfigError(f"{out / member.filename} is there: give another --out")
            with writing(out):
                out.mkdir(parents=True, exist_ok=True)
                for member in members:
                    file.extract(member, out)
            return len(members)
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # encrypted, or unknown
        raise _damaged(job_id, one_line(error)) from error


def check_empty(out: Path) -> None:
    """Refuse a directory that holds files already, before anything is run for it.

    Raises:
        ConfigError: names it.
    """
    with writing(out):
        used = out.exists() and any(out.iterdir())
    if used:
        raise ConfigError(f"{out} is not empty: give another --out")


def _check_name(name: str, job_id: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise _damaged(job_id, f"{name!r:.200} would lie outside of the directory")


def _damaged(job_id: str, reason: str) -> ClusterError:
    return ClusterError(f"the results of {job_id} are not as they should be: {reason}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
