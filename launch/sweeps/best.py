"""The best settings of a sweep, as a configuration that runs as it is."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from launch.configuration.yaml_text import escaped
from launch.metrics import format_measure
from launch.run_directory import writing
from launch.sweeps.grid import show
from launch.sweeps.outcome import Outcome
from launch.sweeps.plan import Candidate, Sweep

NAME = "best.yaml"


def write_best(sweep: Sweep, outcomes: Mapping[str, Sequence[Outcome]], out: Path) -> Path | None:
    """Write ``best.yaml``: a run, or for several entries a ``compare`` list with the best of each.

    Args:
        sweep: which decided.
        outcomes: the settings of every entry, the best first; an entry of which all diverged is
            left out.
        out: an existing directory.

    Rounds and ``seeds`` are the file's own, not those of the sweep. With halving the best may be
    one of an earlier rung, where all that went on diverged.

    Returns:
        The path; None if all settings of all entries diverged.
    """
    best = [first for first, *_ in outcomes.values() if first.mean(first.rounds) is not None]
    if not best:
        return None
    runs = [_run(outcome.candidate) for outcome in best]
    compared = len(outcomes) > 1
    seeds = {} if sweep.own_seeds is None else {"seeds": sweep.own_seeds}
    content = {**seeds, "compare": runs} if compared else {**runs[0], **seeds}
    text = yaml.safe_dump(escaped(content), sort_keys=False, allow_unicode=True)
    path = out / NAME
    with writing(path):
        path.write_text(f"{_comment(sweep, best, compared)}\n{text}", encoding="utf-8")
    return path


def _run(candidate: Candidate) -> dict[str, Any]:
    return dataclasses.replace(candidate.config, rounds=candidate.own_rounds).to_mapping()


def _comment(sweep: Sweep, best: Sequence[Outcome], compared: bool) -> str:
    over = "" if sweep.seeds == 1 else ", the mean over seeds"
    lines = [
        f"The best by the {sweep.best} {sweep.measure} after {sweep.rounds} rounds{over}:",
        "",
        f"    mlmc-ray {'compare' if compared else 'train'} {NAME}",
        "",
        *(f"Tried: {axis.key} = {', '.join(map(show, axis.values))}" for axis in sweep.axes),
        *(_chosen(sweep, outcome) for outcome in best),
    ]
    if sweep.halving:
        lines.append(f"By successive halving, at rounds {', '.join(map(str, sweep.at_rounds))}.")
    if any(outcome.candidate.own_rounds != sweep.rounds for outcome in best):
        lines.append("Runs are as long as in the swept file, and not as in the sweep.")
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _chosen(sweep: Sweep, outcome: Outcome) -> str:
    mean = outcome.mean(outcome.rounds)
    value = "" if mean is None else format_measure(sweep.measure, mean)
    entry = " ".join(outcome.candidate.entry.split())
    seeds = ", ".join(map(str, sweep.seeds_of(outcome.candidate)))
    line = f"{entry}: {outcome.candidate.label}: {value}, seed{'s' * (sweep.seeds > 1)} {seeds}"
    if outcome.rounds == sweep.rounds:
        return line
    return f"{line}, after round {outcome.rounds}: all that went on diverged"
