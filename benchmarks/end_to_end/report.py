"""The page of results: three tables for every model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.end_to_end.cells import Outcome, read
from benchmarks.end_to_end.plan import Cell, Contender, Model, Rate
from launch.display.units import format_bytes

Found = dict[tuple[str, str, Rate], Outcome]
"""Outcomes by the names of contender and model, and the rate."""

_NONE = "-"
_NOTES = """\
Four nodes, each behind a link of its own. A round is the median after two rounds of warm-up, in
which PowerSGD does not compress yet; a run that was ended before shows what it had. Evaluations are
not in the seconds. Seconds to an accuracy, which must hold at the evaluation after it too, count
the warm-up as if its rounds were like the others. Compute is one gradient on the slowest node,
while all compute one and nothing is sent; the rest of a round is messages, network, server and
step. A run that has had the target at two evaluations goes on for as long again and ends, so that
accuracies at the end are not those of equally long runs. Bytes a round are those of the busiest
interface in its busier direction, with all headers.
"""


def found_of(cells: Sequence[Cell], out: Path) -> Found:
    """Return what became of the cells that have been run."""
    outcomes = {
        (cell.contender.name, cell.model.name, cell.rate): read(cell, out) for cell in cells
    }
    return {key: outcome for key, outcome in outcomes.items() if outcome}


def page(
    contenders: Sequence[Contender], models: Sequence[Model], rates: Sequence[Rate], found: Found
) -> str:
    """Return the tables of all models that have cells, in Markdown.

    Args:
        contenders: in the order of rows.
        models: in the order of tables.
        rates: in the order of columns.
        found: what there is.
    """
    lines = ["# End to end", "", _NOTES]
    for model in models:
        if not any(name == model.name for _, name, _ in found):
            continue
        lines += [f"## {model.name}, {model.parameters:,} parameters", ""]
        for title, shown in _columns(model):
            lines += [f"{title}:", "", *_table(contenders, model, rates, found, shown), ""]
        lines += _reasons(model, found)
    return "\n".join(lines)


def _columns(model: Model) -> Iterator[tuple[str, Callable[[Outcome], str]]]:
    yield "Rounds a second (ms a round, of which compute)", _round
    yield f"Seconds to {model.target:.0%} (accuracy at the end)", lambda o: _to(o, model.target)
    yield "Bytes a round", _bytes


def _table(
    contenders: Sequence[Contender],
    model: Model,
    rates: Sequence[Rate],
    found: Found,
    shown: Callable[[Outcome], str],
) -> Iterator[str]:
    yield f"| | {' | '.join(rates)} |"
    yield "| --- |" + " ---: |" * len(rates)
    for contender in contenders:
        outcomes = [found.get((contender.name, model.name, rate)) for rate in rates]
        if any(outcomes):
            row = [shown(outcome) if outcome else _NONE for outcome in outcomes]
            yield f"| {contender.name} | {' | '.join(row)} |"


def _round(outcome: Outcome) -> str:
    if outcome.round_s is None or outcome.compute_s is None:
        return outcome.status
    times = f"{1e3 * outcome.round_s:.3g}, {1e3 * outcome.compute_s:.3g}"
    return f"{1 / outcome.round_s:.3g} ({times})"


def _to(outcome: Outcome, target: float) -> str:
    seconds, found = outcome.seconds_to(target), outcome.trace()
    if not found:
        return outcome.status
    return f"{_NONE if seconds is None else f'{seconds:.3g}'} ({found[-1][1]:.1%})"


def _bytes(outcome: Outcome) -> str:
    crossed = outcome.busiest_bytes()
    return _NONE if crossed is None else format_bytes(crossed)


def _reasons(model: Model, found: Found) -> list[str]:
    """Return why cells did not end by themselves, a line each, and an empty one after them."""
    lines = [
        f"- {contender}, {rate}: {outcome.status}, {outcome.reason}"
        for (contender, name, rate), outcome in found.items()
        if name == model.name and outcome.status != "ended"
    ]
    return [*lines, ""] if lines else []
