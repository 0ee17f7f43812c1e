"""Python, its packages, and the devices that torch finds."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from launch.doctor.finding import Finding

_OLDEST_PYTHON = (3, 10)
_TOPIC = "versions"


def versions() -> Iterator[Finding]:
    """Look at Python and the packages: those that mlmc-ray needs, and those of its extras."""
    if sys.version_info >= _OLDEST_PYTHON:
        yield Finding(topic=_TOPIC, name="Python", state="ok", text=platform.python_version())
    else:
        yield Finding(
            topic=_TOPIC,
            name="Python",
            state="missing",
            text=f"{platform.python_version()}, and 3.10 or newer is needed",
            remedy="apt install python3.11",
            needed=True,
        )
    yield Finding(topic=_TOPIC, name="mlmc-ray", state="ok", text=metadata.version("mlmc-ray"))
    lacking: dict[str, list[str]] = {}
    for text in metadata.requires("mlmc-ray") or []:
        requirement = Requirement(text)
        extra = _extra(requirement)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra or ""}):
            continue  # of another Python or system
        found = _package(requirement)
        if extra is None:
            yield found
        elif found.state != "ok":
            lacking.setdefault(extra, []).append(requirement.name)
    for extra, names in lacking.items():
        yield Finding(
            topic=_TOPIC,
            name=f"extra {extra}",
            state="hint",
            text=f"not installed: {', '.join(names)}",
            remedy=f"pip install 'mlmc-ray[{extra}]'",
        )


def _extra(requirement: Requirement) -> str | None:
    """Return the extra that a requirement belongs to, or None where it is always needed."""
    if requirement.marker is None:
        return None
    found = re.search(r"""extra\s*==\s*['"]([^'"]+)""", str(requirement.marker))
    return found[1] if found else None


def _package(requirement: Requirement) -> Finding:
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        version = ""
    if version and requirement.specifier.contains(version, prereleases=True):
        return Finding(topic=_TOPIC, name=requirement.name, state="ok", text=version)
    text = f"{version}, and {requirement.specifier} is needed" if version else "not installed"
    return Finding(
        topic=_TOPIC,
        name=requirement.name,
        state="missing",
        text=text,
        remedy=remedy,
        needed=True,
    )


def devices() -> Iterator[Finding]:
    """Look at processors and GPUs."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(topic="devices", name="CPU", state="ok", text=f"{cores} processors")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding(topic="devices", name="CUDA", state="ok", text=", ".join(names))
        return
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    yield Finding(
        topic="devices",
        name="CUDA",
        state="ok",
        text=f"no device; torch is {build}",
    )
