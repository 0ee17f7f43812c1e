"""What a person sees in the terminal while runs go on, and at their end."""

from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launch.metrics import Metrics, format_measure, main_measure
from launch.summary import Summary
from launch.units import format_bytes

_FORMAT = "{name}  {round:>9}  {loss:>6}  {measure:>8}  {up:>7}  {down:>7}  {speed:>8}"

WIDEST_NAME = 28
"""Columns for a name; of a longer one a line shows the beginning, and the table folds it."""


class RunProgress:
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

    def update(self, metrics: Metrics) -> None:
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

    The paper's formula itself is in ``summary.json``; its value, in bits per value, is here.
    """
    measure = main_measure({row.name: list(row.measures) for row in summaries})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("run", overflow="fold", max_width=WIDEST_NAME)
    table.add_column(Text(f"test\n{measure}"), justify="right", overflow="fold")
    columns = ("bytes\nup", "bytes\ndown", "bits per\nvalue, up", "paper's\nformula", "seconds")
    timed = any(row.clock_s is not None for row in summaries)
    for column in (*columns, "clock\nseconds") if timed else columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in summaries:
        table.add_row(
            Text(row.name),
            format_measure(measure, row.measures[measure]),
            format_bytes(row.uplink_bytes),
            format_bytes(row.downlink_bytes),
            f"{row.bits_per_value:.3g}",
            "-" if row.paper_bits_per_value is None else f"{row.paper_bits_per_value:.3g}",
            f"{row.seconds:.1f}",
            *(["-" if row.clock_s is None else f"{row.clock_s:.4g}"] if timed else []),
        )
    return table
