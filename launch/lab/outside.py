"""The outside of a lab: what the machine must offer, and the namespaces that seal it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from launch.lab.plan import LabPlan
from mlmc_ray.errors import ClusterError, ConfigError

NAMESPACE_DIR = Path("/run/netns")
"""Where `ip netns` keeps names; a lab mounts its own over it."""

_ITS_OWN = ("/dev/shm", "/proc", str(NAMESPACE_DIR))
_GRACE_S = 5.0  # for the command to end by itself after Ctrl-C
_PACKAGES = {"ip": "iproute2", "tc": "iproute2"} | dict.fromkeys(
    ("unshare", "setpriv", "mount"), "util-linux"
)
# The shell is process 1 of the lab: it reaps whatever loses its parent.
_SEALED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--pid", "--mount", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"),
)
_FIRST_PROCESS = ("sh", "-c", '"$@"; exit $?', "sh")


def missing() -> str | None:
    """Return what keeps this machine from having a lab, with the remedy; None if nothing does."""
    if sys.platform != "linux":
        return f"a lab needs Linux, and this is {sys.platform}: use a virtual machine with Linux"
    for tool, package in _PACKAGES.items():
        if shutil.which(tool) is None:
            return f"a lab needs the program {tool}: apt install {package} (its name on Debian)"
    if os.geteuid():
        return f"a lab needs root, and this is user {os.geteuid()}: run it with sudo"
    trial = subprocess.run([*_SEALED, "true"], capture_output=True, text=True)
    if trial.returncode:
        return (
            f"a lab needs namespaces, which are refused here ({trial.stderr.strip()}): run it on "
            "the machine itself, or in a container with the capabilities SYS_ADMIN and NET_ADMIN "
            "(docker run --privileged)"
        )
    return None


def run_in_lab(plan: LabPlan, command: Sequence[str]) -> int:
    """Bring a lab up, run a command on its node 0, and return the command's exit status.

    The lab is gone when this returns or raises, and when this process ends in any other way. It
    shares the machine's files, but for /dev/shm, /proc and /run/netns, which are its own.

    Args:
        plan: of the lab.
        command: a program and its arguments.

    Raises:
        ClusterError: the machine cannot have a lab; says why, and the remedy.
        ConfigError: the program is not there, or the report has no place.
        KeyboardInterrupt: from Ctrl-C, after the command has had some seconds to end.
    """
    if reason := missing():
        raise ClusterError(reason)
    if shutil.which(command[0]) is None:
        raise ConfigError(f"command {command[0]!r}: there is no such program")
    if plan.report is not None:
        _check_report(Path(plan.report).resolve())
    NAMESPACE_DIR.mkdir(exist_ok=True)
    inner = [sys.executable, "-m", "launch.lab.sealed", json.dumps(asdict(plan)), *command]
    lab = subprocess.Popen([*_SEALED, *_FIRST_PROCESS, *inner])
    try:
        status = lab.wait()
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):
            lab.wait(_GRACE_S)
        raise
    finally:
        lab.kill()  # and with it the kernel ends every process of the lab
        lab.wait()
    return status if status >= 0 else 128 - status


def _check_report(path: Path) -> None:
    """Refuse a file that cannot be written after the command, from inside of the lab.

    Raises:
        ConfigError: says why.
    """
    own = [place for place in _ITS_OWN if path.is_relative_to(place)]
    if own:
        raise ConfigError(f"--json {path}: {own[0]} is the lab's own, and gone with it")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--json {path}: give a file in a directory that is there and writable")
