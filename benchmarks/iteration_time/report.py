"""Results as files, tables and words."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from benchmarks.iteration_time.parts import PARTS, WIRE

Results = dict[str, Any]


def read(path: Path) -> Results:
    """Return what ``run`` has written.

    Raises:
        ValueError: the file cannot be read, or is another's.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    known = isinstance(results, dict) and results.get("benchmark") == "iteration_time"
    if not known or list(results.get("parts", ())) != list(PARTS):
        raise ValueError(
            f"{path} has no times of the parts {list(PARTS)}: give a file that "
            "`python -m benchmarks.iteration_time run --json` has written"
        )
    return dict(results)


def write(results: Results, path: Path) -> None:
    """Write results for ``read``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def title_of(results: Results) -> str:
    """Return what all entries have in common: workers, device, engine."""
    settings = [entry["settings"] for entry in results["entries"]]
    workers = sorted({own["workers"] for own in settings})
    devices = sorted({own["device"] for own in settings})
    sizes = sorted({entry["parameters"] for entry in results["entries"]})
    names = {"cpu": "CPU", "cuda": results["machine"].get("gpu", "GPU")}
    where = "one process, no wire" if results["engine"] == "inline" else "Ray, on one machine"
    return ", ".join(
        [
            f"{' or '.join(f'{size:,}' for size in sizes)} parameters",
            f"{' or '.join(map(str, workers))} worker{'s' if workers != [1] else ''}",
            " and ".join(names[device] for device in devices),
            where,
        ]
    )


def markdown(results: Results) -> list[str]:
    """Return a Markdown table of every part, a row an entry."""
    head = ["ms", "round", *PARTS]
    rows = [
        [entry["name"].replace("|", "\\|"), *_cells(entry, results)] for entry in results["entries"]
    ]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def table(results: Results) -> Table:
    """Return the same for a terminal."""
    shown = Table(
        title=f"{title_of(results)}: ms a round",
        title_justify="left",
        caption=f"Means over the middle half of {results['rounds']} rounds, by their length.",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    shown.add_column("")
    for name in ("round", *PARTS):
        shown.add_column(name.replace(" + ", " +\n"), justify="right", no_wrap=True)
    for entry in results["entries"]:
        shown.add_row(Text(entry["name"]), *_cells(entry, results))
    return shown


def _cells(entry: dict[str, Any], results: Results) -> list[str]:
    """Return the numbers of a row; of a part that cannot be, a dash."""
    return [
        "-" if name == WIRE and results["engine"] == "inline" else f"{milliseconds:.3g}"
        for name, milliseconds in entry["middle_ms"].items()
    ]
