"""Running cells, each in a lab of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.end_to_end.cells import LIMIT_S, Outcome, read, write
from benchmarks.end_to_end.measuring import Record
from benchmarks.end_to_end.plan import WORKERS, Cell, Distributed, names_of

_GRACE_S = 10.0
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")  # of util-linux, as a lab needs anyway
_LONGEST_REASON = 300  # characters


def run_cells(cells: Sequence[Cell], out: Path, console: Console, *, again: bool) -> None:
    """Run the cells that have no file yet; one that fails does not stop the others.

    Args:
        cells: in the order to run them.
        out: directory of their files.
        console: is told of every cell.
        again: whether those that did not end by themselves are run again.
    """
    missing = [cell for cell in cells if _is_missing(read(cell, out), again=again)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("cells", total=len(missing))
        for cell in missing:
            progress.update(task, description=cell.label)
            outcome = _run(cell)
            write(cell, outcome, out)
            progress.advance(task)
            line = f"{cell.label}: {_in_words(outcome)}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def _is_missing(outcome: Outcome | None, *, again: bool) -> bool:
    return outcome is None or (again and outcome.status != "ended")


def _run(cell: Cell) -> Outcome:
    with TemporaryDirectory() as scratch:
        place, record, said = (Path(scratch) / name for name in ("cell", "record", "said"))
        place.write_text(json.dumps(names_of(cell)), encoding="utf-8")
        with said.open("w") as log:
            lab = subprocess.Popen(_lab_command(cell, place, record), stdout=log, stderr=log)
            status = _wait(lab)
        found = None
        if record.exists():
            found = Record.of(json.loads(record.read_text(encoding="utf-8")))
        if status is None:
            return Outcome(status="time limit", reason=f"after {LIMIT_S:g} s", record=found)
        if status or found is None:
            reason = _last_line(said) or f"exit status {status}, and nothing was said"
            return Outcome(status="failed", reason=reason, record=found)
        return Outcome(status="ended", reason=None, record=found)


def _lab_command(cell: Cell, place: Path, record: Path) -> list[str]:
    """Return the command of a cell; on Ray the server has a node of its own beside the workers'."""
    on_ray = not isinstance(cell.contender, Distributed)
    nodes = 1 + WORKERS + on_ray  # with node 0, which trains nothing
    lab = [sys.executable, "-m", "launch.lab", "run", "--nodes", str(nodes)]
    rate = [] if cell.rate == "unshaped" else ["--rate", cell.rate]
    inside = [sys.executable, "-m", "benchmarks.end_to_end.inside", str(place), str(record)]
    return [*_ENDS_WITH_US, *lab, *rate, *([] if on_ray else ["--no-ray"]), "--", *inside]


def _wait(lab: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status of the lab; None if it was ended at the limit of time."""
    try:
        return lab.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        lab.terminate()  # and with it the kernel ends what runs inside
        try:
            lab.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            lab.kill()
            lab.wait()


def _last_line(said: Path) -> str | None:
    lines = [line.strip() for line in said.read_text(errors="replace").splitlines()]
    return next((line[:_LONGEST_REASON] for line in reversed(lines) if line), None)


def _in_words(outcome: Outcome) -> str:
    if outcome.round_s is None or outcome.record is None:
        return f"{outcome.status}: {outcome.reason}"
    ended = "" if outcome.status == "ended" else f", {outcome.status}: {outcome.reason}"
    accuracy = outcome.record.evaluations[-1].measures["accuracy"]
    rounds = f"{len(outcome.record.round_seconds)} rounds of {outcome.round_s:.4g} s"
    return f"{rounds}, accuracy {accuracy:.1%}{ended}"
