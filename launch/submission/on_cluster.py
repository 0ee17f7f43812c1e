"""Runs on the cluster: ``python -m launch.submission.on_cluster --job ID -- train CONFIG``.

Starts ``python -m launch`` with the arguments after ``--``, and ends with its exit code. Then, or
when the job is stopped, it leaves what was written where the dashboard can read it; where that
fails, it keeps it, and says where.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from launch.display.results import RESULTS_MOVE
from launch.display.units import format_bytes
from launch.submission.results import archive_name, pack
from mlmc_ray.errors import one_line

_LOG = Path("/proc/self/fd/1")


def main(arguments: Sequence[str]) -> int:
    """Run the command, pack its results, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.submission.on_cluster")
    parser.add_argument("--job", required=True, help="the job's name")
    parser.add_argument("--keep", help="directory in which the results stay")
    parser.add_argument("command", nargs="+", help="arguments of mlmc-ray")
    asked = parser.parse_args(arguments)
    if asked.keep is not None:
        _check_unused(Path(asked.keep))
        return _run([*asked.command, "--out", asked.keep])
    where = log_directory()
    _check_writable(where)
    scratch = Path(tempfile.mkdtemp(prefix=f"{asked.job}-"))
    directory = scratch / asked.job
    exit_code = _run([*asked.command, "--out", str(directory)], {RESULTS_MOVE: "1"})
    try:
        manifest = pack(directory, asked.job, where)
    except Exception as error:  # whatever it was, the results must stay
        print(
            f"not packed ({type(error).__name__}: {one_line(error)}): the results are kept in "
            f"{directory} on {socket.gethostname()}",
            flush=True,
        )
        return exit_code or 1
    if manifest.num_bytes:
        print(f"packed: {where / archive_name(asked.job)}, {format_bytes(manifest.num_bytes)}")
    shutil.rmtree(scratch, ignore_errors=True)
    return exit_code


def log_directory() -> Path:
    """Return Ray's log directory on this node: a job's output goes to a file in it."""
    return Path(os.readlink(_LOG)).parent


def _check_writable(where: Path) -> None:
    """End the job before its run if its results could not be left there."""
    try:
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        sys.exit(
            f"{where} on {socket.gethostname()} cannot be written ({error.strerror}), so no "
            "results could come back: give --out-on-cluster PATH"
        )


def _check_unused(keep: Path) -> None:
    """End the job before its run if its results would lie among others, or could not be written."""
    where = f"{keep} on {socket.gethostname()}"
    try:
        keep.mkdir(parents=True, exist_ok=True)
        used = any(keep.iterdir())
    except OSError as error:
        sys.exit(f"{where} cannot be written ({error.strerror}): give another --out-on-cluster")
    if used:
        sys.exit(f"{where} is not empty: give another --out-on-cluster")


def _run(arguments: Sequence[str], variables: Mapping[str, str] = MappingProxyType({})) -> int:
    """Run ``mlmc-ray``. A job that is stopped gets SIGTERM in every process: outlive the run's."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, the command does not inherit it
    command = [sys.executable, "-m", "launch", *arguments]
    exit_code = subprocess.run(command, check=False, env={**os.environ, **variables}).returncode
    return exit_code if exit_code >= 0 else 128 - exit_code  # as a shell says it of a signal


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
