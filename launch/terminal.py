"""What a person sees in the terminal while runs go on, and at their end."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launch.callbacks import Callback
from launch.metrics import Metrics, format_measure, main_measure, measure_in_words
from launch.summary import Summary
from launch.target import Target
from launch.units import format_bytes
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.session import Session

_FORMAT = "{name}  {round:>9}  {loss:>6}  {measure:>8}  {up:>7}  {down:>7}  {speed:>8}"

WIDEST_NAME = 28
"""Columns for a name; of a longer one a line shows the beginning, and the table folds it."""


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
        self._console.print(text, highlight=False, markup=False)

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        """Show the metrics of a round."""
        if f"test_{self._measure}" in metrics:
            self._tested = format_measure(self._measure, metrics[f"test_{self._measure}"])
        elif not self._console.is_terminal:
            return
        line = _FORMAT.format(
            name=self._name,
            round=f"{metrics['round']}/{self._rounds}",
            loss=f"{metrics['train_loss']:.3f}" if "train_loss" in metrics else "",
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
        if self._console.is_terminal:
            self._live.start()
            self._live.update(Text(f"{self._name}  starting"), refresh=True)
        else:
            self._print(f"{self._name}  starting")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


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


def summary_table(summaries: Sequence[Summary]) -> Table:
    """Return the final table: one row a run. It fits 80 columns.

    Gradients a round, of all workers, are shown where runs differ in them. Where there is a clock
    its seconds take the place of those on the wall, and the column of the paper's formula is left
    out where no run has one. Everything is in ``summary.json``, the formula
    itself too.
    """
    measure = main_measure({row.name: list(row.measures) for row in summaries})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("run", overflow="fold", max_width=WIDEST_NAME)
    heading = measure_in_words(measure).replace(" to the ", " to\n").replace("test ", "test\n")
    table.add_column(Text(heading), justify="right", overflow="fold")
    columns = _columns(summaries)
    for heading in columns:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for row, *cells in zip(summaries, *columns.values(), strict=True):
        table.add_row(Text(row.name), format_measure(measure, row.measures[measure]), *cells)
    return table


def _columns(summaries: Sequence[Summary]) -> dict[str, list[str]]:
    """Return what the table says of bytes and time: headings, and a cell for every run."""
    columns = {
        "bytes\nup": [format_bytes(row.uplink_bytes) for row in summaries],
        "bytes\ndown": [format_bytes(row.downlink_bytes) for row in summaries],
        "bits per\nvalue": [f"{row.bits_per_value:.3g}" for row in summaries],
    }
    paper = [row.paper_bits_per_value for row in summaries]
    if any(bits is not None for bits in paper):
        columns["paper's\nformula"] = ["-" if bits is None else f"{bits:.3g}" for bits in paper]
    computed = [row.gradients / max(1, row.rounds) for row in summaries]
    if max(computed) > min(computed):
        columns["gradients\na round"] = [f"{number:.3g}" for number in computed]
    clocks = [row.clock_s for row in summaries]
    if any(clock_s is not None for clock_s in clocks):
        columns["clock\nseconds"] = ["-" if s is None else f"{s:.4g}" for s in clocks]
    else:
        columns["seconds"] = [f"{row.seconds:.1f}" for row in summaries]
    if target := summaries[0].target:
        sent = [row.bytes_to_target for row in summaries]
        cells = ["not\nreached" if size is None else format_bytes(size) for size in sent]
        columns[_heading(target)] = cells
    return columns


def _heading(target: Target) -> str:
    words = target.measure.replace("_", "\n")
    value = format_measure(target.measure, target.value).replace("e-0", "e-")
    return f"bytes up\nto {words}\n{value}"
