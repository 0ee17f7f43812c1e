"""What is shown while runs go on: a bar in a terminal, and a line for every run that ended."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class RunsProgress:
    """Counts rounds of several runs.

    Args:
        console: where to; one that is no terminal gets the lines alone.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rounds"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=0)

    def begin(self, doing: str, rounds: int) -> None:
        """Start counting anew, towards a number of rounds."""
        self._bar.reset(self._task, description=doing, total=rounds)

    def advance(self, rounds: int) -> None:
        """Count rounds that were done, or that will not be."""
        self._bar.advance(self._task, rounds)

    def note(self, line: str) -> None:
        """Show a line of text."""
        self._bar.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def __enter__(self) -> "RunsProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
