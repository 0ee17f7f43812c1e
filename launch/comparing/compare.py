"""Running several configurations, and setting them side by side."""

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.comparing.ended import Ended
from launch.comparing.notes import missing_runs, notes_on_seeds, notes_on_target
from launch.comparing.plan import Run, plan_runs
from launch.comparing.record import Record
from launch.comparing.results import Results
from launch.comparing.running import Task, Watcher, run_task, run_watched
from launch.comparing.target import Target
from launch.configuration.run_config import RunConfig
from launch.display.terminal import WIDEST_NAME, RunProgress, print_results
from launch.many.apart import run_apart
from launch.many.lock import locked
from launch.many.parallel import check_parallel
from launch.many.progress import RunsProgress
from launch.metrics import Metrics
from launch.summary import Summary
from mlmc_ray.errors import ConfigError, RoundError


def compare(
    configs: Sequence[RunConfig],
    out: Path,
    console: Console,
    target: "float | Target | None" = None,
    *,
    seeds: int = 1,
    processes: int = 1,
) -> list[Summary]:
    """Run every configuration, each in a directory of its own below ``out``; print the table.

    A run that fails in its rounds ends alone, and its row says so. Writes ``summary.json`` after
    every run, and figures at the end. A comparison that is interrupted, or ended by another error,
    leaves those of the runs that ended and their table, and names the others. Runs that have ended
    in ``out`` before are not run again.

    Args:
        configs: the entries, with different names.
        out: made if need be.
        console: where progress and the table go.
        target: see ``target_for``.
        seeds: with how many every entry is run: its own and those that follow it.
        processes: how many runs at a time; inline runs alone, each with one thread.

    Returns:
        One row a run, whose names say the seed where there are several; see ``check_ended``.

    Raises:
        ConfigError: two runs have the same name, ``out`` holds something else, others write there,
            a run could not begin, several processes are asked for and the runs are not for that,
            one's own code was edited during the runs, or the target fits no measure.
        ProblemError, RoundError, ClusterError: one could not begin.
    """
    runs = plan_runs(configs, seeds)
    check_parallel(configs, processes)
    with locked(out):
        record = Record(out, runs)
        comparison = _Comparison(runs, Results(runs, seeds, target), record, out, console)
        comparison.keep()
        try:
            comparison.run(processes)
        finally:
            comparison.tell(configs)
    return comparison.summaries()


def check_ended(summaries: Sequence[Summary]) -> None:
    """Refuse rows of which some are of runs that failed.

    Raises:
        RoundError: names these.
    """
    failed = [summary.name for summary in summaries if summary.ended]
    if failed:
        number = f"{len(failed)} of {len(summaries)} runs"
        some = "every run" if len(failed) == len(summaries) else number
        raise RoundError(f"compare: {some} failed: {'; '.join(failed)}: see the lines above")


@dataclasses.dataclass(frozen=True, slots=True)
class _Comparison:
    """The runs of a comparison, what they have come to, and where that is told and written."""

    runs: Sequence[Run]
    results: Results
    record: Record
    out: Path
    console: Console

    def keep(self) -> None:
        """Take over the runs that have ended before."""
        kept = [run for run in self.runs if run.label in self.record.kept]
        for run in kept:
            ended = self.record.kept[run.label]
            self._begin(run, list(ended.metrics), self._say)
            self.results.add(run, ended)
        if kept:
            number = f"{len(kept)} of {len(self.runs)} runs"
            self._say(f"going on: {number} have ended in {self.out} and are kept")

    def run(self, processes: int) -> None:
        """Run those that are missing."""
        missing = self.results.missing
        if processes > 1:
            if missing:
                self._run_apart(missing, processes)
            return
        with ExitStack() as stack:
            _share_cluster([run.config for run in missing], stack, self.console)
            for run in missing:
                self._run_here(run, headings=run is missing[0])

    def _run_here(self, run: Run, *, headings: bool) -> None:
        width = min(WIDEST_NAME, max(len(other.label) for other in self.runs))
        self.record.begin(run)
        with RunProgress(self.console, run.label, run.config.rounds, width) as progress:

            def note(line: str) -> None:
                progress.note(f"{run.label}: {line}")

            def begin(metrics: list[Metrics]) -> None:
                progress.begin(self._begin(run, metrics, note), headings=headings)

            watcher = Watcher(note=note, begin=begin, callback=progress)
            ended = run_watched(run.config, self.out / run.place, watcher, alone=False)
        if run.config.engine == "ray":  # whose processes have imported one's own code just now
            self.record.check_unchanged(run)
        self._end(run, ended)

    def _run_apart(self, missing: Sequence[Run], processes: int) -> None:
        rounds = [0] * len(missing)
        for run in missing:
            self.record.begin(run)
        tasks = [Task(config=run.config.to_mapping(), out=self.out / run.place) for run in missing]
        self._say(f"{len(missing)} runs, {min(processes, len(missing))} at a time")
        with RunsProgress(self.console) as progress:
            progress.begin(f"{len(missing)} runs", sum(run.config.rounds for run in missing))

            def on_news(index: int, news: Any) -> None:
                run = missing[index]
                if isinstance(news, int):
                    progress.advance(news - rounds[index])
                    rounds[index] = news
                elif isinstance(news, str):
                    progress.note(f"{run.label}: {news}")
                else:
                    self.results.begin(
                        run, news, lambda: rounds[index], lambda line: on_news(index, line)
                    )

            def on_result(index: int, ended: Ended) -> None:
                run = missing[index]
                progress.advance(run.config.rounds - rounds[index])
                self.record.check_unchanged(run)
                self._end(run, ended)
                number = f"{len(self.results.done)} of {len(self.runs)} runs"
                progress.note(f"{run.label}: {ended.summary.rounds} rounds, ended: {number}")

            run_apart(run_task, tasks, processes=processes, on_news=on_news, on_result=on_result)

    def _begin(self, run: Run, metrics: list[Metrics], note: Any) -> str:
        return self.results.begin(run, metrics[0], lambda: int(metrics[-1]["round"]), note)

    def _end(self, run: Run, ended: Ended) -> None:
        self.results.add(run, ended)
        self.results.write(self.out, draws=False)

    def tell(self, configs: Sequence[RunConfig]) -> None:
        """Print the table of the runs that have ended, draw them, and name the others."""
        if rows := self.results.rows if self.results.done else []:
            done = {run.config.name for run in self.results.done}
            entries = [config for config in configs if config.name in done]
            target = self.results.summaries[0].target
            notes = [*notes_on_seeds(rows), *notes_on_target(entries, target)]
            print_results(self.console, rows, notes)
            self.results.write(self.out)
        if self.results.rounds and self.results.missing:
            self._say(missing_runs(self.results.missing, self.results.rounds, self.out))

    def summaries(self) -> list[Summary]:
        """Return a row for every run, called by its label."""
        named = zip(self.results.done, self.results.summaries, strict=True)
        return [dataclasses.replace(row, name=run.label) for run, row in named]

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


def _share_cluster(configs: Sequence[RunConfig], stack: ExitStack, console: Console) -> None:
    """Let all Ray runs use one cluster, so that it starts once."""
    on_ray = [config for config in configs if config.engine == "ray"]
    addresses = {config.address for config in on_ray}
    if len(addresses) > 1:
        raise ConfigError(
            f"compare: address is one of {sorted(map(str, addresses))}: runs that are compared "
            "share one cluster"
        )
    if on_ray:
        from launch.engines.cluster import ray_cluster  # imports Ray, which inline runs do not need

        console.print("starting Ray", highlight=False)
        stack.enter_context(ray_cluster(on_ray[0].address))
