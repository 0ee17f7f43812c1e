"""The files of runs that have ended."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from launch.run_directory import replace_text, writing


def write_results(
    out: Path, rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Figure]
) -> None:
    """Write figures, by the names of their files, and then ``summary.json``.

    Args:
        out: an existing directory.
        rows: of the summary, which is written in full or not at all.
        figures: by the names of their files.

    Raises:
        ConfigError: they cannot be written.
    """
    with writing(out):
        for name, figure in figures.items():
            figure.savefig(out / name)
    replace_text(out / "summary.json", json.dumps(rows, indent=2) + "\n")
