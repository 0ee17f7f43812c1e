"""The live view of a run in a terminal: ``mlmc-ray train --live``."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from launch.callbacks.numbers import levels_of
from launch.display.terminal import RunProgress
from launch.display.units import format_bytes
from launch.metrics import Metrics, format_measure
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.session import Session

_BLOCKS = "▁▂▃▄▅▆▇█"
_HZ = 4.0
_LOGARITHMIC_FROM = 100  # times the least value
_OTHER_COLUMNS = 48  # beside the sparklines: a label, spaces, and what is said of a worker
_ROUNDS = 20  # over which the times of workers are averaged


class LiveProgress(RunProgress):
    """Shows a run's curves, its traffic, its levels and its slowest worker as they come.

    Where there is no terminal it says so, and shows a line per evaluation.

    Args:
        console: where to.
        name: the run's.
        rounds: how many there will be.
        name_width: see ``RunProgress``.
    """

    def __init__(self, console: Console, name: str, rounds: int, name_width: int = 0) -> None:
        super().__init__(console, name, rounds, name_width)
        if console.is_terminal:
            self._view = _View(name, rounds)
            self._live = Live(
                get_renderable=lambda: self._view.drawn(console.width),
                console=console,
                refresh_per_second=_HZ,
            )

    def begin(self, measure: str, *, headings: bool = True) -> None:
        """Say which of the problem's measures to show; lines have headings, the view has none."""
        super().begin(measure, headings=headings and not self._console.is_terminal)
        if self._console.is_terminal:
            self._view.measure = measure

    def on_start(self, session: "Session") -> None:
        """Take over what the session remembers: a branch begins with a past."""
        if self._console.is_terminal:
            self._view.begin(session)

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        """Show a round: at once as a line, or at the view's next turn."""
        if self._console.is_terminal:
            self._view.add(metrics, result)
        else:
            super().on_round(session, metrics, result)

    def __enter__(self) -> "LiveProgress":
        if not self._console.is_terminal:
            self.note("--live needs a terminal, and this is none: a line per evaluation instead")
        super().__enter__()
        return self


class _View:
    """What is known of a run so far, and how it looks; drawn by another thread than told."""

    def __init__(self, name: str, rounds: int) -> None:
        self.measure = ""
        self._title = name
        self._lock = Lock()
        self._curves: defaultdict[str, list[float]] = defaultdict(list)
        self._sent = {"uplink": 0, "downlink": 0}
        self._levels: Counter[int] = Counter()
        self._times: deque[Mapping[int, float]] = deque(maxlen=_ROUNDS)
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            expand=True,
        )
        self._task = self._progress.add_task("", total=rounds, speed="starting")

    def begin(self, session: "Session") -> None:
        config = session.config
        self._title = f"{config.name}  {config.workers} workers, {session.dim:,} parameters"
        for metrics in session.metrics:
            self._add_numbers(metrics)
        self._progress.reset(self._task, completed=session.round_index)

    def add(self, metrics: Metrics, result: RoundResult) -> None:
        with self._lock:
            self._add_numbers(metrics)
            self._levels.update(levels_of(result))
            seconds: defaultdict[int, float] = defaultdict(float)
            for work in result.work:
                seconds[work.worker_id] += work.seconds
            self._times.append(seconds)
        self._progress.update(self._task, completed=metrics["round"])

    def _add_numbers(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self._curves[name].append(value)
        for direction, before in self._sent.items():
            self._sent[direction] = metrics[f"{direction}_bytes"]
            if metrics["round"]:
                self._curves[direction].append(self._sent[direction] - before)

    def drawn(self, width: int) -> Group:
        """Return the view, for a terminal of so many columns."""
        speed = self._progress.tasks[0].speed
        if speed:
            self._progress.update(self._task, speed=f"{speed:.3g} rounds/s")
        table = Table.grid(padding=(0, 2))
        for column in range(3):
            table.add_column(
                no_wrap=True, overflow="crop", justify="right" if column > 1 else "left"
            )
        with self._lock:
            for label, line, said in self._rows(max(10, width - _OTHER_COLUMNS)):
                table.add_row(Text(label, style="dim"), Text(line, style="cyan"), Text(said))
        return Group(Text(self._title, no_wrap=True, style="bold"), self._progress, table)

    def _rows(self, width: int) -> list[tuple[str, str, str]]:
        """Return labels, sparklines and what they have come to; only of what there is."""
        rows = []
        measure = f"test_{self.measure}"
        curves: dict[str, tuple[str, Callable[[float], str]]] = {
            "loss": ("train_loss", lambda value: f"{value:.4g}"),
            self.measure: (measure, lambda value: format_measure(self.measure, value)),
            "up a round": ("uplink", lambda value: self._traffic(value, "uplink")),
            "down a round": ("downlink", lambda value: self._traffic(value, "downlink")),
            "relative error": ("relative_error", lambda value: f"{value:.4g}"),
        }
        for label, (name, in_words) in curves.items():
            if values := self._curves.get(name):
                rows.append((label, sparkline(values, width), in_words(values[-1])))
        if self._levels:
            highest, draws = max(self._levels), self._levels.total()
            counts = [self._levels[level] for level in range(1, highest + 1)]
            said = f"1 to {highest}, {draws} draws"
            rows.append(("levels", histogram(counts, width), said))
        if slowest := self._slowest():
            rows.append(("slowest", *slowest))
        return rows

    def _traffic(self, size: float, direction: str) -> str:
        return f"{format_bytes(size)}, in all {format_bytes(self._sent[direction])}"

    def _slowest(self) -> tuple[str, str] | None:
        """Return the worker that took longest over the last rounds, and how long."""
        total: defaultdict[int, float] = defaultdict(float)
        rounds: Counter[int] = Counter()
        for seconds in self._times:
            for worker_id, spent in seconds.items():
                total[worker_id] += spent
                rounds[worker_id] += 1
        if not total:
            return None
        means = {worker_id: total[worker_id] / rounds[worker_id] for worker_id in total}
        worker_id = max(means, key=means.__getitem__)
        mean = sum(means.values()) / len(means)
        times = f"{means[worker_id] / mean:.2g} times the mean" if mean else ""
        return f"worker {worker_id}", f"{1000 * means[worker_id]:.3g} ms, {times}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return a curve in one line: the last value of each of at most ``width`` equal stretches.

    The least value is the lowest block and the greatest the highest; by logarithm where all are
    positive and far apart. What is not finite is a gap.
    """
    columns = min(width, len(values))
    shown = [values[(column + 1) * len(values) // columns - 1] for column in range(columns)]
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return " " * columns
    least, most = min(finite), max(finite)
    if least > 0 and most > _LOGARITHMIC_FROM * least:
        shown = [math.log(value) if math.isfinite(value) else value for value in shown]
        least, most = math.log(least), math.log(most)
    return "".join(_block(value, least, most) for value in shown)


def histogram(counts: Sequence[int], width: int) -> str:
    """Return counts as bars in one line, neighbours added up where there are more than fit."""
    columns = min(width, len(counts))
    edges = [column * len(counts) // columns for column in range(columns + 1)]
    bars = [sum(counts[edges[i] : edges[i + 1]]) for i in range(columns)]
    return "".join(_block(bar, 0, max(bars)) if bar else " " for bar in bars)


def _block(value: float, least: float, most: float) -> str:
    if not math.isfinite(value):
        return " "
    if math.isinf(most - least):  # though all three are finite
        value, least, most = value / 2, least / 2, most / 2
    part = (value - least) / (most - least) if most > least else 0.5
    return _BLOCKS[round(part * (len(_BLOCKS) - 1))]
