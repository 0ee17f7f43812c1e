"""The page of results: three tables for every model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.end_to_end.cells import Outcome, read
from benchmarks.end_to_end.plan import Cell, Contender, Model, Rate
from launch.display.units import format_bytes

Found = dict[tuple[str, str, Rate], Outcome]
"""Outcomes by the names of contender and model, and the rate."""

_NONE = "-"
_NOTES = """\
Four nodes, each behind a link of its own. Everybody trains on links without a limit; then some
more rounds are timed at every other rate. A round is the median after the first two, in which
PowerSGD does not compress yet. Seconds to an accuracy, which must hold at the evaluation after it
too, count these two; evaluations are not in them. Those with ~ are computed: as many rounds as on
links without a limit, each as long as those that were timed, and the time that the links take for
what the first two send more than others. A - stands for an accuracy that was not reached, and for
rounds of which one alone would take 30 s. Compute is one gradient on the slowest node, while all
compute one and nothing is sent; the rest of a round is messages, network, server and step. A run
that has had the target at two evaluations goes on for as long again and ends, so that accuracies
at the end are not those of equally long runs. Bytes a round are those of the busiest interface in
its busier direction, with all headers.
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
        for title, heads, row in _tables(model, rates):
            lines += [f"{title}:", "", f"| | {' | '.join(heads)} |"]
            lines += ["| --- |" + " ---: |" * len(heads)]
            for contender in contenders:
                outcomes = {
                    rate: outcome
                    for (name, of, rate), outcome in found.items()
                    if (name, of) == (contender.name, model.name)
                }
                if outcomes:
                    lines += [f"| {contender.name} | {' | '.join(row(outcomes))} |"]
            lines += [""]
        lines += _reasons(model, found)
    return "\n".join(lines)


Outcomes = Mapping[Rate, Outcome]
"""Of a contender and a model, by the rate of the links while it trained."""


def _tables(
    model: Model, rates: Sequence[Rate]
) -> Iterator[tuple[str, Sequence[str], Callable[[Outcomes], list[str]]]]:
    """Yield title, heads of columns, and what makes a row."""
    yield "ms a round", ["compute", *rates], lambda o: [_compute(o), *(_round(o, r) for r in rates)]
    seconds = f"Seconds to {model.target:.0%}"
    yield seconds, rates, lambda o: [_seconds(o, rate, model.target) for rate in rates]
    yield (
        "Where the links have no limit",
        [f"rounds to {model.target:.0%}", "accuracy at the end", "bytes a round"],
        lambda o: _free(o, model.target),
    )


def _compute(outcomes: Outcomes) -> str:
    found = [outcome.compute_s for outcome in outcomes.values() if outcome.compute_s is not None]
    return f"{1e3 * found[0]:.3g}" if found else _NONE


def _round(outcomes: Outcomes, rate: Rate) -> str:
    trained = outcomes.get(rate)
    seconds = trained.round_s if trained else None
    if seconds is None:
        timed = (outcome.timed_round_s(rate) for outcome in outcomes.values())
        seconds = next((found for found in timed if found is not None), None)
    return _NONE if seconds is None else f"{1e3 * seconds:.3g}"


def _seconds(outcomes: Outcomes, rate: Rate, target: float) -> str:
    trained = outcomes.get(rate)
    seconds = trained.seconds_to(target) if trained else None
    if seconds is not None:
        return f"{seconds:.3g}"
    computed = (outcome.computed_seconds_to(target, rate) for outcome in outcomes.values())
    seconds = next((found for found in computed if found is not None), None)
    return _NONE if seconds is None else f"~{seconds:.3g}"


def _free(outcomes: Outcomes, target: float) -> list[str]:
    outcome = outcomes.get("unshaped")
    if outcome is None or outcome.record is None or not outcome.trace():
        return [_NONE] * 3
    rounds, crossed = outcome.rounds_to(target), outcome.record.busiest_bytes()
    return [
        _NONE if rounds is None else str(rounds),
        f"{outcome.trace()[-1][1]:.1%}",
        _NONE if crossed is None else format_bytes(crossed),
    ]


def _reasons(model: Model, found: Found) -> list[str]:
    """Return why cells did not end by themselves, a line each, and an empty one after them."""
    lines = [
        f"- {contender}, {rate}: {outcome.status}, {outcome.reason}"
        for (contender, name, rate), outcome in found.items()
        if name == model.name and outcome.status != "ended"
    ]
    return [*lines, ""] if lines else []
