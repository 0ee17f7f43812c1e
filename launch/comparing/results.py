"""What a comparison has come to so far: rows, figures, and the files of both."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from launch.comparing.ended import Ended
from launch.comparing.over_seeds import OverSeeds
from launch.comparing.plan import Run
from launch.comparing.target import Target, check_measured, target_for
from launch.comparing.writing import write_results
from launch.display.cells import Row
from launch.display.figures import draw, title_of
from launch.display.grid import Curve, draw_grid
from launch.display.levels import draw_levels
from launch.metrics import Metrics, main_measure, measure_names
from launch.run_directory import replace_text
from launch.summary import Summary

Note = Callable[[str], None]


class Results:
    """The runs of a comparison that have begun, and those that have ended.

    Args:
        runs: of the comparison, in order.
        seeds: how many runs every entry has.
        target: see ``target_for``.

    Attributes:
        rounds: how far runs have come that have begun, by label.
    """

    def __init__(self, runs: Sequence[Run], seeds: int, target: "float | Target | None") -> None:
        self._runs = runs
        self._seeds = seeds
        self._wanted = target
        self._measures: dict[str, list[str]] = {}
        self._ended: dict[str, Ended] = {}
        self.rounds: dict[str, Callable[[], int]] = {}

    def begin(self, run: Run, first: Metrics, rounds: Callable[[], int], note: Note) -> str:
        """Note that a run has begun.

        Args:
            run: which.
            first: its metrics from before the first round.
            rounds: tells how many it has made.
            note: is told what is odd about the target.

        Returns:
            The measure to show.

        Raises:
            ConfigError: it has no measure in common with those before, or the target does not fit.
        """
        self._measures[run.label] = measure_names(first)
        measure = main_measure(self._measures)
        if target := target_for(measure, self._wanted):
            check_measured(target, self._measures)
            if target.bytes_up([first]) is not None:
                note(f"{target} is reached before the first round, so it tells nothing of this run")
        self.rounds[run.label] = rounds
        return measure

    def add(self, run: Run, ended: Ended) -> None:
        """Note that a run has ended, and how."""
        self._ended[run.label] = ended

    @property
    def missing(self) -> list[Run]:
        """The runs that have not ended."""
        return [run for run in self._runs if run.label not in self._ended]

    @property
    def done(self) -> list[Run]:
        """The runs that have ended."""
        return [run for run in self._runs if run.label in self._ended]

    @property
    def summaries(self) -> list[Summary]:
        """A row for every run that has ended."""
        target = target_for(main_measure(self._measures), self._wanted)
        return [
            dataclasses.replace(
                ended.summary,
                target=target,
                bytes_to_target=target.bytes_up(ended.metrics) if target else None,
            )
            for ended in (self._ended[run.label] for run in self.done)
        ]

    @property
    def rows(self) -> list[Row]:
        """The rows of the table: one for every entry of which a run has ended."""
        if self._seeds == 1:
            return [*self.summaries]
        found: dict[str, list[tuple[int, Summary]]] = {}
        for run, summary in zip(self.done, self.summaries, strict=True):
            found.setdefault(run.config.name, []).append((run.config.seed, summary))
        return [
            OverSeeds(seeds=tuple(seed for seed, _ in own), runs=tuple(row for _, row in own))
            for own in found.values()
        ]

    def write(self, out: Path, *, draws: bool = True) -> None:
        """Write ``summary.json``, ``compare.png`` and, where levels were drawn, ``levels.png``.

        Args:
            out: an existing directory.
            draws: whether the figures are drawn, which takes seconds where they are large.

        Raises:
            ConfigError: they cannot be written.
        """
        rows = self.rows
        if self._seeds > 1:
            for place, row in zip(self._places(), rows, strict=True):
                assert isinstance(row, OverSeeds)
                text = json.dumps([run.to_mapping() for run in row.runs], indent=2)
                replace_text(out / place / "summary.json", text + "\n")
        figures = self._figures(rows) if draws else {}
        write_results(out, [row.to_mapping() for row in rows], figures)

    def _figures(self, rows: Sequence[Row]) -> dict[str, Figure]:
        figures = {"compare.png": self._figure(rows)}
        if levels := self._levels():
            figures["levels.png"] = draw_levels(levels)
        return figures

    def _places(self) -> list[str]:
        return list(dict.fromkeys(Path(run.place).parts[0] for run in self.done))

    def _levels(self) -> Mapping[str, Counter[int]]:
        found: dict[str, Counter[int]] = {}
        for run in self.done:
            if drawn := self._ended[run.label].levels:
                found[run.config.name] = found.get(run.config.name, Counter()) + drawn
        return found

    def _figure(self, rows: Sequence[Row]) -> Figure:
        entries = {run.config.name: run.config for run in self.done}
        title = title_of([*entries.values()])
        if self._seeds == 1 and not any(run.config.panels for run in self._runs):
            return draw({run.label: self._ended[run.label].metrics for run in self.done}, title)
        curves = [
            Curve(name=_shown(row), panels=config.panel_names, runs=self._whole(config.name))
            for row, config in zip(rows, entries.values(), strict=True)
        ]
        over = f", mean of {self._seeds} seeds, and their range" if self._seeds > 1 else ""
        return draw_grid(curves, main_measure(self._measures), f"{title}{over}")

    def _whole(self, name: str) -> list[Sequence[Metrics]]:
        """Return the metrics of an entry's runs that came to their last round; else of all."""
        ended = [self._ended[run.label] for run in self.done if run.config.name == name]
        whole = [one.metrics for one in ended if one.summary.ended is None]
        return whole or [one.metrics for one in ended]


def _shown(row: Row) -> str:
    """Return the name of a row in the figure, which says whether seeds are left out there."""
    if not isinstance(row, OverSeeds) or len(row.whole) in (0, len(row.runs)):
        return row.name
    return f"{row.name} ({len(row.whole)} of {len(row.runs)} seeds)"
