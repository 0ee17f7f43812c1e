"""Running a sweep: all settings in full, or successive halving.

A run that goes on to a later rung is run again from its start, which gives the same numbers as if
it had been halted there, since runs are deterministic. That costs at most half as much again as
keeping every session, and in exchange a run is a function of its setting, seed and length: it can
be run in any process, and what was run before an interruption is not run again. Survivors are found
by the measures of whole rungs, so the result does not depend on the order in which runs end.

Ray Tune does the same on clusters. On one machine its trials are actors that wait for seconds to
start, and take a processor each from the runs that they hold, which on Ray need actors themselves.

References:
    Jamieson and Talwalkar, 2016, arXiv:1502.07943 (successive halving).
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.many.apart import run_apart
from launch.many.fingerprint import made_with
from launch.many.lock import locked
from launch.many.parallel import check_parallel
from launch.many.progress import RunsProgress
from launch.metrics import format_measure
from launch.run_directory import writing
from launch.sweeps.best import write_best
from launch.sweeps.outcome import Outcome, ranked
from launch.sweeps.plan import FACTOR, Candidate, Sweep
from launch.sweeps.report import draw_sweep
from launch.sweeps.results import Results
from launch.sweeps.trial import SHAPE, Trial, run_trial


def sweep_into(
    sweep: Sweep, out: Path, console: Console, processes: int = 1
) -> dict[str, list[Outcome]]:
    """Run a sweep, or the rest of it, and write what it finds into a directory.

    Writes ``results.json`` after every run, and at the end ``figure.png`` and ``best.yaml``.

    Args:
        sweep: what to run.
        out: made if need be; may hold results of this sweep, which are not run again.
        console: where progress goes.
        processes: see ``run_sweep``.

    Returns:
        See ``run_sweep``.

    Raises:
        ConfigError: ``out`` holds results of something else, others write some there, or see
            ``run_sweep``.
        MlmcRayError: see ``run_sweep``.
    """
    check_parallel((candidate.config for candidate in sweep.candidates), processes)
    with locked(out):
        made = partial(made_with, [candidate.config for candidate in sweep.candidates])
        results = Results(out, sweep.to_mapping(), SHAPE, made)
        with RunsProgress(console) as progress:
            if sweep.left_aside:
                progress.note(
                    f"swept is the file's own run; the {sweep.left_aside} of its compare list are "
                    "left aside: add --entries to sweep them instead"
                )
            if results.found:
                progress.note(f"going on: {results.found} runs of this sweep are in {out}")
            outcomes = run_sweep(sweep, results, progress, processes)
        figure = draw_sweep(sweep, outcomes)
        with writing(out):
            figure.savefig(out / "figure.png")
        write_best(sweep, outcomes, out)
    return outcomes


def run_sweep(
    sweep: Sweep, results: Results, progress: RunsProgress, processes: int = 1
) -> dict[str, list[Outcome]]:
    """Run what has not been run yet.

    Args:
        sweep: what to run.
        results: what has been run; added to after every run.
        progress: is told of rounds and runs.
        processes: how many runs at a time; inline runs alone, each with one thread.

    Returns:
        The settings of every entry, the best first, those that diverged last.

    Raises:
        ConfigError: several processes are asked for, and the runs are not for that; or one's own
            code was edited during the runs.
        MlmcRayError: a run failed otherwise than by diverging.
    """
    check_parallel((candidate.config for candidate in sweep.candidates), processes)
    alive = list(sweep.candidates)
    stages = sweep.at_rounds if sweep.halving else sweep.at_rounds[-1:]
    reached = {}
    for rounds in stages:
        _run(sweep, alive, rounds, results, progress, processes)
        reached.update({id(candidate): rounds for candidate in alive})
        if rounds < sweep.rounds:
            alive = _survivors(sweep, alive, rounds, results)
    return {
        entry: ranked(sweep, [_outcome(sweep, c, reached[id(c)], results) for c in candidates])
        for entry, candidates in sweep.entries.items()
    }


def _survivors(
    sweep: Sweep, alive: Sequence[Candidate], rounds: int, results: Results
) -> list[Candidate]:
    """Return the best third of the settings of every entry, at least one, in their order."""
    kept: set[int] = set()
    for entry in sweep.entries:
        outcomes = [_outcome(sweep, c, rounds, results) for c in alive if c.entry == entry]
        best = ranked(sweep, outcomes)[: -(-len(outcomes) // FACTOR)]
        finite = [o for o in best if o.mean(rounds) is not None] or best[:1]
        kept |= {id(outcome.candidate) for outcome in finite}
    return [candidate for candidate in alive if id(candidate) in kept]


def _outcome(sweep: Sweep, candidate: Candidate, rounds: int, results: Results) -> Outcome:
    seeds = sweep.seeds_of(candidate)
    runs = [results.get(_name(candidate, seed, rounds)) or {} for seed in seeds]
    taken = [number for number in sweep.at_rounds if number <= rounds]
    return Outcome(
        candidate=candidate,
        measured={
            number: tuple(run["measured"][str(number)] for run in runs)
            for number in taken
            if all(str(number) in run["measured"] for run in runs)
        },
        diverged=tuple(run["diverged"] for run in runs if run["diverged"]),
        rounds=rounds,
        seconds=sum(run["seconds"] for run in runs),
    )


def _run(
    sweep: Sweep,
    candidates: Sequence[Candidate],
    rounds: int,
    results: Results,
    progress: RunsProgress,
    processes: int,
) -> None:
    """Run the settings so far, with every seed, unless results has them."""
    asked = [(candidate, seed) for candidate in candidates for seed in sweep.seeds_of(candidate)]
    names = [_name(candidate, seed, rounds) for candidate, seed in asked]
    missing = [i for i, name in enumerate(names) if results.get(name) is None]
    trials = [_trial(sweep, *asked[i], rounds) for i in missing]
    done = [0] * len(trials)
    progress.begin(f"{len(candidates)} settings to round {rounds}", rounds * len(trials))

    def on_news(index: int, number: int) -> None:
        done[index] += number
        progress.advance(number)

    def on_result(index: int, result: dict[str, Any]) -> None:
        progress.advance(rounds - done[index])
        results.add(names[missing[index]], result)
        candidate, seed = asked[missing[index]]
        value = result["measured"].get(str(rounds))
        shown = "diverged" if value is None else format_measure(sweep.measure, value)
        progress.note(
            f"{candidate.entry}: {candidate.label}, seed {seed}, round {rounds}: "
            f"{shown}, {result['seconds']:.1f} s"
        )

    if any(candidate.config.engine == "ray" for candidate in candidates):
        _run_on_ray(candidates[0], trials, on_news, on_result)
    else:
        run_apart(run_trial, trials, processes=processes, on_news=on_news, on_result=on_result)


def _run_on_ray(
    candidate: Candidate, trials: Sequence[Trial], on_news: Any, on_result: Any
) -> None:
    """Run trials one after the other in this process, on one cluster."""
    from launch.engines.cluster import ray_cluster  # imports Ray, which inline runs do not need

    with ray_cluster(candidate.config.address):
        for index, trial in enumerate(trials):
            on_result(index, run_trial(trial, partial(on_news, index)))


def _trial(sweep: Sweep, candidate: Candidate, seed: int, rounds: int) -> Trial:
    whole = sweep.rounds  # of all runs, so that none depends on where it is halted
    config = dataclasses.replace(candidate.config, seed=seed, rounds=whole, evaluate_every=whole)
    return Trial(
        config=config.to_mapping(),
        measure=sweep.measure,
        at_rounds=tuple(number for number in sweep.at_rounds if number <= rounds),
    )


def _name(candidate: Candidate, seed: int, rounds: int) -> str:
    return f"{candidate.entry}: {json.dumps(candidate.settings)}, seed {seed}, round {rounds}"
