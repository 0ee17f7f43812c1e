"""What a person sees in the terminal while runs go on, and at their end."""

from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launch.metrics import Metrics, main_measure, measure_names
from launch.summary import Summary
from launch.units import format_bytes

_FORMAT = "{name}  {round:>9}  {loss:>6}  {measure:>8}  {up:>7}  {down:>7}  {speed:>8}"


class RunProgress:
    """Shows a run's rounds: one live line in a terminal, a line per evaluation elsewhere.

    Args:
        console: where to.
        name: the run's.
        rounds: how many there will be.
        name_width: columns kept for the name, so that several runs stand in line.
        header: print the headings first.
    """

    def __init__(
        self, console: Console, name: str, rounds: int, name_width: int = 0, header: bool = True
    ) -> None:
        self._console = console
        self._name = f"{name:<{name_width}}"
        self._rounds = rounds
        self._header = header
        self._tested = ""
        self._live = Live("", console=console, auto_refresh=False)

    def begin(self, metrics: Metrics) -> None:
        """Show the headings, given the metrics before the first round."""
        if self._header:
            self._print(_headings(len(self._name), main_measure(measure_names(metrics))))

    def update(self, metrics: Metrics) -> None:
        """Show the metrics of a round."""
        names = measure_names(metrics)
        if names:
            self._tested = f"{metrics[f'test_{main_measure(names)}']:.3g}"
        elif not self._console.is_terminal:
            return
        line = _FORMAT.format(
            name=self._name,
            round=f"{metrics['round']}/{self._rounds}",
            loss=f"{metrics['train_loss']:.3f}",
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
    """Return the final table: one row a run. It fits 80 columns."""
    measure = main_measure(list(summaries[0].measures))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("run", no_wrap=True)
    columns = (f"test\n{measure}", "bytes\nup", "bytes\ndown", "bits per\nvalue, up")
    for column in (*columns, "paper's\nformula", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in summaries:
        value = row.measures[measure]
        table.add_row(
            Text(row.name),
            f"{value:.1%}" if measure == "accuracy" else f"{value:.4g}",
            format_bytes(row.uplink_bytes),
            format_bytes(row.downlink_bytes),
            f"{row.bits_per_value:.3g}",
            f"{row.paper_formula}: {row.paper_bits_per_value:.3g}" if row.paper_formula else "-",
            f"{row.seconds:.1f}",
        )
    return table
