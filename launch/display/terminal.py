"""What a person sees in the terminal while runs go on, and at their end."""

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launch.callbacks import Callback
from launch.display.cells import Row, columns_of, mean_of, result_of
from launch.display.units import format_bytes
from launch.metrics import (
    Metrics,
    format_loss,
    format_measure,
    main_measure,
    measure_in_words,
)
from mlmc_ray.kernels.compiled import number_kept
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.session import Session

_FORMAT = "{name}  {round:>9}  {loss:>6}  {measure:>8}  {up:>7}  {down:>7}  {speed:>8}"

WIDEST_NAME = 28
"""Columns for a name in the lines of rounds, which show the beginning of a longer one."""

_ROOM_FOR_NAME = 20  # columns, at least, of the table
_WIDEST_MEASURE = 24
_UNBOUNDED = 100_000
_LEAST_FIRST = (
    *("interface,\nestimated", "paper's\nformula", "gradients\na round", "seconds"),
    *("mean\nlevel", "bytes\ndown", "bits per\nvalue", "clock\nseconds"),
)
"""Headings of columns that may be left out, in that order."""


class RunProgress(Callback):
    """Shows a run's rounds: one live line in a terminal, a line per evaluation elsewhere.

    Args:
        console: where to.
        name: the run's.
        rounds: how many there will be.
        name_width: columns for the name, so that several runs stand in line; 0 for as many as it
            has.
    """

    def __init__(self, console: Console, name: str, rounds: int, name_width: int = 0) -> None:
        self._console = console
        width = name_width or len(name)
        self._name = f"{name[:width]:<{width}}"
        self._rounds = rounds
        self._measure = ""
        self._tested = ""
        self._live = Live("", console=console, auto_refresh=False)

    def begin(self, measure: str, *, headings: bool = True) -> None:
        """Say which of the problem's measures to show, and show the headings."""
        self._measure = measure
        if headings:
            self._print(_headings(len(self._name), measure))

    def note(self, text: str) -> None:
        """Show a line of text."""
        wide = not self._console.is_terminal  # in a file an error stays one line
        self._console.print(text, soft_wrap=wide, highlight=False, markup=False)

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        """Show the metrics of a round."""
        if f"test_{self._measure}" in metrics:
            self._tested = format_measure(self._measure, metrics[f"test_{self._measure}"])
        elif not self._console.is_terminal:
            return
        line = _FORMAT.format(
            name=self._name,
            round=f"{metrics['round']}/{self._rounds}",
            loss=format_loss(metrics["train_loss"]) if "train_loss" in metrics else "",
            measure=self._tested,
            up=format_bytes(metrics["uplink_bytes"]),
            down=format_bytes(metrics["downlink_bytes"]),
            speed=f"{metrics['round'] / metrics['seconds']:.0f}",
        )
        if self._console.is_terminal:
            self._live.update(Text(line, no_wrap=True, overflow="crop"), refresh=True)
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def __enter__(self) -> "RunProgress":
        self._console.soft_wrap = True  # a line of a log stays one line
        compiling = "" if number_kept() else ": compiling kernels (once, up to a minute)"
        line = f"{self._name}  starting{compiling}"
        if self._console.is_terminal:
            self._live.start()
            self._live.update(Text(line), refresh=True)
        else:
            self._print(line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        self._console.soft_wrap = False


def _headings(name_width: int, measure: str) -> str:
    return _FORMAT.format(
        name=" " * name_width,
        round="round",
        loss="loss",
        measure=measure,
        up="up",
        down="down",
        speed="rounds/s",
    )


def print_results(console: Console, summaries: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print the final table, and below it what has to be known of its columns.

    In a terminal the least important columns are left out until numbers and 20 letters of a name
    fit; elsewhere a run is one line, however long.
    """
    left_out: list[str] = []
    if console.is_terminal:
        left_out = _left_out(console, summaries)
        console.print(summary_table(summaries, left_out))
    else:
        table = summary_table(summaries, one_line=True)
        table.width = _natural_width(console, table)
        console.print(table, crop=False)
    if left_out:
        names = ", ".join(" ".join(heading.split()) for heading in left_out)
        notes = [*notes, f"no room for: {names}; summary.json has all"]
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _left_out(console: Console, summaries: Sequence[Row]) -> list[str]:
    """Return the headings of the columns that a terminal has no room for."""
    longest = max(cell_len(row.name) for row in summaries)
    spare = max(0, longest - _ROOM_FOR_NAME)
    left_out: list[str] = []
    for heading in [name for name in _LEAST_FIRST if name in columns_of(summaries)]:
        if _natural_width(console, summary_table(summaries, left_out)) - spare <= console.width:
            break
        left_out.append(heading)
    return left_out


def _natural_width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(max_width=_UNBOUNDED)).maximum


def summary_table(
    summaries: Sequence[Row], left_out: Collection[str] = (), *, one_line: bool = False
) -> Table:
    """Return the final table: one row a run, or an entry that was run with several seeds.

    Only names give way where it is too wide.

    Gradients a round, of all workers, are shown where runs differ in them. Where there is a clock
    its seconds take the place of those on the wall, and the columns of the paper's formula and of
    the mean level are left out where no run has one. Everything is in ``summary.json``, the formula
    itself too.

    Args:
        summaries: the rows.
        left_out: headings of columns that are not wanted.
        one_line: whether every row is a line, rather than some cells two.
    """
    measure = main_measure({row.name: list(mean_of(row).measures) for row in summaries})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("run", overflow="fold", no_wrap=one_line)
    heading = measure_in_words(measure).replace(" to the ", " to\n").replace("test ", "test\n")
    table.add_column(
        Text(heading), justify="right", no_wrap=True, overflow="ellipsis", max_width=_WIDEST_MEASURE
    )
    columns = {name: cells for name, cells in columns_of(summaries).items() if name not in left_out}
    for heading in columns:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    results = [result_of(row, measure) for row in summaries]
    for row, *cells in zip(summaries, results, *columns.values(), strict=True):
        shown = [" ".join(cell.split()) for cell in cells] if one_line else cells
        table.add_row(Text(row.name), *shown)
    return table
