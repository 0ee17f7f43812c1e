"""What a sweep found: a table, and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter
from rich import box
from rich.table import Table
from rich.text import Text

from launch.display.colours import OKABE_ITO
from launch.metrics import format_measure, measure_in_words
from launch.sweeps.grid import Axis, show
from launch.sweeps.outcome import Outcome
from launch.sweeps.plan import Sweep

_MARKERS = "osD^v<>p"


def sweep_table(sweep: Sweep, outcomes: Mapping[str, Sequence[Outcome]]) -> Table:
    """Return a table of the settings, of every entry the best first.

    Args:
        sweep: which was run.
        outcomes: as ``run_sweep`` returns them.
    """
    several = sweep.seeds > 1
    title = measure_in_words(sweep.measure)
    table = Table(
        title=f"{title}, mean and standard deviation of {sweep.seeds} seeds"
        if several
        else f"{title}, {_seed(sweep)}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    if len(outcomes) > 1:
        table.add_column("run", overflow="fold", max_width=28)
    names = short_names([axis.key for axis in sweep.axes])
    for axis in sweep.axes:
        table.add_column(Text(names[axis.key]), justify="right", overflow="fold")
    if any(name != key for key, name in names.items()):
        table.caption = "\n".join(f"{name}: {key}" for key, name in names.items() if name != key)
        table.caption_justify = "left"
    for rounds in sweep.at_rounds:
        table.add_column(f"round {rounds}", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for entry, ranking in outcomes.items():
        for index, outcome in enumerate(ranking):
            row = [] if len(outcomes) == 1 else [Text(entry if index == 0 else "")]
            row += [Text(show(outcome.candidate.settings[axis.key])) for axis in sweep.axes]
            row += [Text(_cell(sweep, outcome, rounds)) for rounds in sweep.at_rounds]
            best = index == 0 and outcome.mean(outcome.rounds) is not None
            table.add_row(*row, f"{outcome.seconds:.1f}", style="bold" if best else "")
    return table


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest endings of dotted keys that tell them apart, by key."""
    names = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[first:]) for first in range(len(parts))]
        others = [other for other in keys if other != key]
        names[key] = next(
            (
                ending
                for ending in reversed(endings)
                if not any(f".{other}".endswith(f".{ending}") for other in others)
            ),
            key,
        )
    return names


def remarks(sweep: Sweep, outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Return a line for every best setting that is at an end of its range, or is no full run."""
    lines = []
    for entry, (best, *_) in outcomes.items():
        if best.mean(best.rounds) is None:
            lines.append(f"{entry}: all settings diverged; the first said: {best.diverged[0]}")
            continue
        if best.rounds < sweep.rounds:
            lines.append(
                f"{entry}: all that went on after round {best.rounds} diverged: the best is the "
                "best there of the others"
            )
        for axis in sweep.axes:
            value = best.candidate.settings[axis.key]
            if axis.numeric and len(axis.values) > 1 and value in (ends := _ends(axis)):
                side = "low" if value == ends[0] else "high"
                lines.append(
                    f"{entry}: the best {axis.key}, {show(value)}, is the "
                    + (
                        f"{side}er of only two: try more values, on both sides"
                        if len(axis.values) == 2
                        else f"{side}est that was tried: try {side}er ones too"
                    )
                )
    return lines


def draw_sweep(sweep: Sweep, outcomes: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Draw the measure against every key: all settings, and the best at each value.

    The axis of a key is logarithmic where its values are spaced like that. Settings that diverged,
    or fell behind in successive halving, have no measure at the end; the first are crosses at the
    edge.
    """
    number = len(sweep.axes)
    figure = Figure(figsize=(5.5 * number, 4.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, number, sharey=True, squeeze=False)[0]
    for panel, axis in zip(panels, sweep.axes, strict=True):
        for index, (entry, ranking) in enumerate(outcomes.items()):
            style = {
                "color": OKABE_ITO[index % len(OKABE_ITO)],
                "marker": _MARKERS[index % len(_MARKERS)],
            }
            _draw_entry(panel, sweep, axis, entry, ranking, style)
        _finish(panel, axis)
    _finish_measure(panels[0], sweep, outcomes)
    figure.suptitle(f"after {sweep.rounds} rounds, {sweep.seeds} seed{'s' * (sweep.seeds > 1)}")
    if len(outcomes) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _seed(sweep: Sweep) -> str:
    """Return the seed of all runs, where each setting has one; entries may have different ones."""
    seeds = {candidate.config.seed for candidate in sweep.candidates}
    return f"seed {seeds.pop()}" if len(seeds) == 1 else "one seed each"


def _cell(sweep: Sweep, outcome: Outcome, rounds: int) -> str:
    if rounds > outcome.rounds:
        return "-"
    mean, spread = outcome.mean(rounds), outcome.spread(rounds)
    if mean is None:
        return "diverged"
    shown = format_measure(sweep.measure, mean)
    return shown if spread is None else f"{shown} ± {format_measure(sweep.measure, spread)}"


def _ends(axis: Axis) -> tuple[Any, Any]:
    return min(axis.values), max(axis.values)


def _place(axis: Axis, outcome: Outcome) -> float:
    """Return where a setting stands on the axis of a key."""
    value = outcome.candidate.settings[axis.key]
    return float(value) if axis.numeric else float(axis.values.index(value))


def _draw_entry(
    panel: Axes,
    sweep: Sweep,
    axis: Axis,
    entry: str,
    ranking: Sequence[Outcome],
    style: Mapping[str, Any],
) -> None:
    means = [(o, mean) for o in ranking if (mean := o.mean(sweep.rounds)) is not None]
    places = [_place(axis, outcome) for outcome, _ in means]
    panel.plot(places, [mean for _, mean in means], linestyle="", alpha=0.35, **style)
    best: dict[float, tuple[float, float]] = {}
    for place, (outcome, mean) in zip(places, means, strict=True):
        best.setdefault(place, (mean, outcome.spread(sweep.rounds) or 0.0))  # the best come first
    ordered = sorted(best)
    label = f" {entry}"  # matplotlib hides what starts with an underscore
    values = [best[place][0] for place in ordered]
    spreads = [best[place][1] for place in ordered]
    panel.errorbar(ordered, values, spreads, label=label, capsize=2, **style)
    lost = [_place(axis, o) for o in ranking if o.diverged]
    edge = 0.02 if sweep.best == "highest" else 0.98
    panel.plot(
        lost, [edge] * len(lost), "x", color=style["color"], transform=panel.get_xaxis_transform()
    )


def _finish(panel: Axes, axis: Axis) -> None:
    panel.set_xlabel(axis.key, parse_math=False)
    panel.grid(alpha=0.3, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    if axis.logarithmic:
        panel.set_xscale("log")
    if not axis.numeric:
        texts = [show(value) for value in axis.values]
        panel.set_xticks(range(len(texts)), texts, rotation=30, ha="right", parse_math=False)
    elif len(axis.values) <= 8:
        panel.set_xticks(list(axis.values), [f"{value:g}" for value in axis.values])
        panel.xaxis.set_minor_locator(NullLocator())


def _finish_measure(panel: Axes, sweep: Sweep, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    panel.set_ylabel(measure_in_words(sweep.measure), parse_math=False)
    means = [o.mean(sweep.rounds) for ranking in outcomes.values() for o in ranking]
    values = [mean for mean in means if mean is not None]
    if sweep.measure == "accuracy":
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif values and sweep.best == "lowest" and min(values) > 0 and max(values) > 10 * min(values):
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
