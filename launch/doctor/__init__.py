"""What this machine has of what mlmc_ray can use, and the command that brings what is missing.

>>> from launch.doctor import examine
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from launch.doctor.clusters import clusters
from launch.doctor.finding import Finding
from launch.doctor.packages import devices, versions
from launch.doctor.places import data_sets, space
from mlmc_ray.errors import one_line

__all__ = ["Finding", "as_json", "examine", "healthy"]


def examine(data_dir: Path | None = None) -> list[Finding]:
    """Look at this machine; nothing is started, downloaded or changed.

    Args:
        data_dir: where data sets are looked for; by default ``data`` below the current directory.
    """
    topics: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": versions,
        "devices": devices,
        "Ray": clusters,
        "data sets": lambda: data_sets(data_dir or Path("data")),
        "caches and space": space,
    }
    return [finding for topic, look in topics.items() for finding in _safely(topic, look)]


def healthy(findings: list[Finding]) -> bool:
    """Say whether nothing is missing that mlmc_ray needs."""
    return not any(finding.state == "missing" and finding.needed for finding in findings)


def as_json(findings: list[Finding]) -> str:
    """Return the findings for a script: ``healthy``, and a list of ``findings``."""
    report = {"healthy": healthy(findings), "findings": [asdict(found) for found in findings]}
    return json.dumps(report, indent=2)


def _safely(topic: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; a package that breaks when imported is a finding too."""
    try:
        yield from look()
    except Exception as error:  # of somebody else's package
        yield Finding(
            topic=topic,
            name=type(error).__name__,
            state="missing",
            text=one_line(error),
            remedy="install the packages again: pip install --force-reinstall mlmc-ray",
            needed=True,
        )
