"""What a person sees in the terminal while runs go on, and at their end."""

from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from launch.metrics import Metrics, main_measure, measure_names
from launch.summary import Summary
from launch.units import format_bytes


class RunProgress:
    """Shows a run's rounds: a live bar in a terminal, a line per evaluation elsewhere."""

    def __init__(self, console: Console, name: str, rounds: int, name_width: int = 0) -> None:
        self._console = console
        self._name = name
        self._rounds = rounds
        self._tested = ""
        self._progress = Progress(
            TextColumn(f"{name:<{name_width}}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:>4}/{task.total}"),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("starting", total=rounds)

    def update(self, metrics: Metrics) -> None:
        """Show the metrics of a round."""
        names = measure_names(metrics)
        if names:
            name = main_measure(names)
            self._tested = f"{name} {metrics[f'test_{name}']:.3g}"
        speed = metrics["round"] / metrics["seconds"] if metrics["seconds"] else 0.0
        text = (
            f"loss {metrics['train_loss']:.3f}  {self._tested}  "
            f"up {format_bytes(metrics['uplink_bytes'])}  "
            f"down {format_bytes(metrics['downlink_bytes'])}  {speed:.0f} rounds/s"
        )
        self._progress.update(self._task, completed=metrics["round"], description=text)
        if names and not self._console.is_terminal:
            done = f"{metrics['round']:>5}/{self._rounds}"
            self._console.print(f"{self._name}  {done}  {text}", soft_wrap=True, highlight=False)

    def __enter__(self) -> "RunProgress":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


def summary_table(summaries: Sequence[Summary]) -> Table:
    """Return the final table: one row a run. It fits 80 columns."""
    measure = main_measure(list(summaries[0].measures))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("run", no_wrap=True)
    columns = (f"test\n{measure}", "bytes\nup", "bytes\ndown", "bits per\nvalue, up")
    for column in (*columns, "by the paper's\nformula", "time\ns"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in summaries:
        value = row.measures[measure]
        table.add_row(
            row.name,
            f"{value:.1%}" if measure == "accuracy" else f"{value:.4g}",
            format_bytes(row.uplink_bytes),
            format_bytes(row.downlink_bytes),
            f"{row.bits_per_value:.3g}",
            f"{row.paper_formula}: {row.paper_bits_per_value:.3g}" if row.paper_formula else "-",
            f"{row.seconds:.1f}",
        )
    return table
