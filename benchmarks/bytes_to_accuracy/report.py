"""The page of results: a table for every setting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.bytes_to_accuracy.cells import Outcome, best_step, read, tried
from benchmarks.bytes_to_accuracy.plan import SEEDS, Cell, Contender, Setting
from launch.display.units import format_bytes

_NONE = "-"
_NOTES = """\
Bytes are of the frames that one worker sent, the mean over workers; kB and MB are decimal. "To" is
the first evaluation that reached the accuracy, every one averaged with the one before and the one
after it; in brackets the range over seeds, or how many of them reached it. "At any step" is the
least over the grid with the first seed. The final accuracy is the mean over the last five
evaluations, with the standard deviation over seeds; by it the first seed chooses the step size.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """A method at its own step size.

    Args:
        contender: the method.
        trials: of the first seed, by step size.
        step: the best of them.
        at_end: whether it is the first or the last of the grid.
        seeds: outcomes with it, of the seeds that have been run.
    """

    contender: Contender
    trials: dict[float, Outcome]
    step: float
    at_end: bool
    seeds: tuple[Outcome, ...]


def tuned(setting: Setting, contender: Contender, out: Path) -> Tuned | None:
    """Return a method at its best step size so far; None if none has an accuracy."""
    trials = tried(setting, contender, SEEDS[0], out)
    step = best_step(trials)
    if step is None:
        return None
    cells = [
        Cell(setting=setting, contender=contender, step_size=step, seed=seed) for seed in SEEDS
    ]
    return Tuned(
        contender=contender,
        trials=trials,
        step=step,
        at_end=step in (setting.steps[0], setting.steps[-1]),
        seeds=tuple(outcome for cell in cells if (outcome := read(cell, out))),
    )


def page(settings: Sequence[Setting], contenders: Sequence[Contender], out: Path) -> str:
    """Return the tables of all settings that have cells, in Markdown.

    Args:
        settings: in the order of their tables.
        contenders: in the order of their rows.
        out: directory of the cells' files.
    """
    lines = ["# Bytes to accuracy", "", _NOTES]
    for setting in settings:
        found = [tuned(setting, contender, out) for contender in contenders]
        if any(found):
            lines += [f"## {setting.title}", "", _conditions(setting), ""]
            lines += [*_table(setting, [row for row in found if row]), ""]
    return "\n".join(lines)


def _conditions(setting: Setting) -> str:
    steps = ", ".join(f"{step:g}" for step in setting.steps)
    return (
        f"{setting.rounds} rounds, {setting.batch_size} examples a gradient, an evaluation every "
        f"{setting.evaluate_every} rounds, step sizes {steps}."
    )


def _table(setting: Setting, rows: Sequence[Tuned]) -> Iterator[str]:
    head = (
        "method",
        f"to {setting.target:.1%}",
        "at any step",
        "final accuracy",
        "a round",
        "step size",
    )
    yield f"| {' | '.join(head)} |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        cells = (
            row.contender.name,
            _to_target(row.seeds, setting.target),
            _at_any_step(row, setting),
            _final(row.seeds),
            _a_round(row.seeds, setting.rounds),
            _step(row, setting),
        )
        yield f"| {' | '.join(cells)} |"


def _to_target(seeds: Sequence[Outcome], target: float) -> str:
    reached = [sent for outcome in seeds if (sent := outcome.bytes_to(target)) is not None]
    if not reached:
        return _NONE
    shown = format_bytes(mean(reached))
    if len(reached) < len(seeds):
        return f"{shown} ({len(reached)} of {len(seeds)})"
    if len(reached) == 1:
        return shown
    return f"{shown} ({format_bytes(min(reached))} to {format_bytes(max(reached))})"


def _at_any_step(row: Tuned, setting: Setting) -> str:
    sent = {step: outcome.bytes_to(setting.target) for step, outcome in row.trials.items()}
    reached = {step: size for step, size in sent.items() if size is not None}
    if not reached:
        return _NONE
    step = min(reached, key=lambda step: reached[step])
    return f"{format_bytes(reached[step])} ({step:g})"


def _final(seeds: Sequence[Outcome]) -> str:
    finals = [final for outcome in seeds if (final := outcome.final) is not None]
    spread = f" ± {stdev(finals):.1%}" if len(finals) > 1 else ""
    ended = "" if len(finals) == len(SEEDS) else f" ({len(finals)} of {len(SEEDS)})"
    return f"{mean(finals):.1%}{spread}{ended}"


def _a_round(seeds: Sequence[Outcome], rounds: int) -> str:
    return format_bytes(mean(o.sent[-1] / rounds for o in seeds if not o.diverged))


def _step(row: Tuned, setting: Setting) -> str:
    missing = len(setting.steps) - len(row.trials)
    notes = ["end of the grid"] * row.at_end + [
        f"{missing} of {len(setting.steps)} to come"
    ] * bool(missing)
    return f"{row.step:g}" + (f" ({', '.join(notes)})" if notes else "")
