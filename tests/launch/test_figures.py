"""Figures and tables of runs with odd names and values."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.comparing.target import Target
from launch.configuration.run_config import load_config
from launch.display.figures import draw, title_of
from launch.display.terminal import print_results, summary_table
from launch.display.units import format_bytes
from launch.metrics import Metrics, format_loss, format_measure, main_measure
from launch.summary import Summary
from mlmc_ray.errors import ConfigError

NAMES = ["costs $5", "$x^$_{", "_hidden", "[bold]x[/bold]", "a name that is much too long " * 3]


def rounds_of(measure: str, *values: float) -> list[Metrics]:
    return [
        {"round": i, "uplink_bytes": 1000 * i, f"test_{measure}": value}
        for i, value in enumerate(values)
    ]


def summary_of(name: str, **measures: float) -> Summary:
    return Summary(name, 10, measures, 184_000_000, 184_000_000, 0.485, "2 d + 70", 2.0, 40, 12.3)


def saved(tmp_path: Path, runs: dict[str, list[Metrics]], title: str = "a $ b_{") -> Any:
    figure = draw(runs, title)
    figure.savefig(tmp_path / "figure.png")
    return figure


def test_every_name_can_be_drawn(tmp_path: Path) -> None:
    figure = saved(tmp_path, {name: rounds_of("accu$racy_{", 1, 2) for name in NAMES})
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == [n.strip() for n in NAMES]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((1.0, 0.5, 0.1), "log"),
        ((1.0, math.nan, 0.1), "linear"),
        ((1.0, math.inf), "linear"),
        ((-1.0, -2.0), "linear"),
        ((0.0, 1.0), "linear"),
        ((math.nan, math.nan), "linear"),
    ],
)
def test_every_value_can_be_drawn(tmp_path: Path, values: tuple[float, ...], scale: str) -> None:
    figure = saved(tmp_path, {"run": rounds_of("loss", *values)})
    assert [axes.get_yscale() for axes in figure.axes] == [scale, scale]


@pytest.mark.parametrize(
    "measure",
    [
        "gap",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("squared_distance", "gradient_norm")),
    ],
)
@pytest.mark.parametrize("last", [0.0, -1e-16, math.nan, math.inf])
def test_a_distance_is_logarithmic_whatever_it_is_rounded_to(
    tmp_path: Path, measure: str, last: float
) -> None:
    figure = saved(tmp_path, {"run": rounds_of(measure, 1.0, 1e-9, last)})
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log"]
    for axes in figure.axes:
        assert axes.get_ylim()[0] > 1e-12  # not the smallest number that there is


def test_a_distance_of_zero_alone_can_be_drawn(tmp_path: Path) -> None:
    figure = saved(tmp_path, {"run": rounds_of("gap", 0.0, 0.0)})
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear"]


def looks_of(figure: Any) -> list[tuple[str, str]]:
    return [(line.get_color(), line.get_linestyle()) for line in figure.axes[1].get_lines()]


def test_many_runs_leave_the_panels_their_height(tmp_path: Path) -> None:
    runs = {f"run {i}": rounds_of("gap", 1.0, 0.1, 0.01) for i in range(16)}
    few = saved(tmp_path, dict(list(runs.items())[:3]))
    many = saved(tmp_path, runs)
    heights = [f.axes[0].get_window_extent().height for f in (few, many)]
    assert heights[1] > 0.9 * heights[0]


@pytest.mark.parametrize("number", [1, 8, 9, 16, 17, 64])
def test_no_two_runs_look_alike(number: int) -> None:
    runs = {f"run {i}": rounds_of("gap", 1.0, 0.1, 0.01) for i in range(number)}
    looks = looks_of(draw(runs, "title"))
    assert len(set(looks)) == number
    if number <= 16:  # no colour suggests a pair
        assert len({colour for colour, _ in looks}) == number


@pytest.mark.parametrize(
    ("values", "marked"),
    [((1.0, 0.5), (True, True)), ((1.0, 0.5, 0.3), (True, False)), ((1.0,) * 4, (False, False))],
)
def test_a_line_of_few_points_has_markers(
    values: tuple[float, ...], marked: tuple[bool, bool]
) -> None:
    panels = draw({"run": rounds_of("gap", *values)}, "title").axes
    markers = [panel.get_lines()[0].get_marker() for panel in panels]
    assert [marker == "o" for marker in markers] == list(marked)


def labels_of_bytes(tmp_path: Path, *sizes: int) -> list[str]:
    rounds = [{"round": i, "uplink_bytes": s, "test_gap": 1.0} for i, s in enumerate((0, *sizes))]
    panel = saved(tmp_path, {"run": rounds}).axes[0]
    least, most = panel.get_xlim()
    ticks = [*panel.xaxis.get_major_ticks(), *panel.xaxis.get_minor_ticks()]
    shown = [tick.label1.get_text() for tick in ticks if least <= tick.get_loc() <= most]
    return [text for text in shown if text]


@pytest.mark.parametrize("most", [4900, 9000, 15_000, 90_000, 500_000, 10**9])
def test_the_axis_of_bytes_has_several_labels(tmp_path: Path, most: int) -> None:
    labels = labels_of_bytes(tmp_path, 2100, most)
    assert 2 <= len(labels) <= 10
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        ((0.1, 0.31, 0.2), (0.05, 0.1), (0.31, 0.36)),
        ((0.1, 0.94), (0, 0), (1, 1)),
        ((0.98, 0.99), (0.95, 0.98), (0.99, 1)),
        ((0.5, 0.5), (0.4, 0.499), (0.501, 0.6)),
        ((math.nan, math.nan), (0, 0), (1, 1)),
        ((0.5, 80.0), (0, 0), (1, 1)),
    ],
)
def test_the_axis_of_accuracy_fits_what_it_shows(
    values: tuple[float, ...], least: tuple[float, float], most: tuple[float, float]
) -> None:
    low, high = draw({"run": rounds_of("accuracy", *values)}, "title").axes[0].get_ylim()
    assert least[0] <= low <= least[1]
    assert most[0] <= high <= most[1]


def test_runs_show_what_all_of_them_measure(tmp_path: Path) -> None:
    both = [{**m, "test_accuracy": 0.5} for m in rounds_of("loss", 1, 2)]
    figure = saved(tmp_path, {"a": both, "b": rounds_of("loss", 3, 4)})
    assert figure.axes[0].get_ylabel() == "test loss"
    assert main_measure({"a": ["loss", "accuracy"], "b": ["loss", "accuracy"]}) == "accuracy"
    assert main_measure({"a": ["loss", "accuracy", "gap"]}) == "gap"
    assert main_measure({"a": ["loss", "gap"], "b": ["loss", "accuracy"]}) == "loss"
    with pytest.raises(ConfigError) as caught:
        main_measure({"a": ["loss"], "b": ["gap", "accuracy"]})
    assert str(caught.value) == (
        "compare: no measure is common to the runs: 'a' measures ['loss']; "
        "'b' measures ['gap', 'accuracy']"
    )


def test_the_title_names_all_data_and_numbers_of_workers() -> None:
    config = {"method": "sgd", "optimizer": {"kind": "sgd", "step_size": 0.1}}
    digits = load_config({**config, "problem": "digits"})
    quadratic = load_config({**config, "problem": "quadratic", "workers": 8})
    assert title_of([digits, digits]) == "digits, 4 workers"
    assert title_of([digits, quadratic]) == "digits and quadratic, 4 and 8 workers"


def terminal_of(width: int, *summaries: Summary) -> list[str]:
    """Return the lines that a terminal of so many columns shows."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    print_results(console, summaries)
    return stream.getvalue().splitlines()


def piped(*summaries: Summary, notes: tuple[str, ...] = ()) -> list[str]:
    stream = io.StringIO()
    print_results(Console(file=stream, width=80), summaries, notes)
    return stream.getvalue().splitlines()


def test_the_table_fits_80_columns_whatever_the_names() -> None:
    lines = terminal_of(80, *(summary_of(name, accuracy=0.944) for name in NAMES))
    assert max(map(len, lines)) <= 80
    for name in NAMES:
        assert any(name[:19] in line and "94.4%" in line and "12.3" in line for line in lines)
    shown = "".join(line[:25].strip() for line in lines).replace(" ", "")
    assert NAMES[-1].replace(" ", "") in shown


def full(name: str, **changes: Any) -> Summary:
    """A row with everything that takes room."""
    target = Target(measure="gap", value=1e-6)
    row = replace(summary_of(name, gap=1.234e-13), target=target, bytes_to_target=123_000)
    return replace(row, **changes)


def test_a_narrow_terminal_leaves_out_what_matters_least_and_no_number_wraps() -> None:
    rows = [full("DIANA, MLMC s-Top-k of two per cent"), full("MARINA, Perm-k", gradients=90)]
    lines = terminal_of(80, *rows)
    assert max(map(len, lines)) <= 80
    (first,) = [line for line in lines if "DIANA, MLMC s-Top-k" in line]
    assert "1.23e-13 184 MB 184 MB 0.485 12.3 123 kB" in " ".join(first.split())
    assert lines[-1] == "no room for: paper's formula, gradients a round; summary.json has all"
    lines = terminal_of(60, *rows)
    assert max(map(len, lines[:-2])) <= 60
    assert any("DIANA, MLMC s-Top-k" in line and "123 kB" in line for line in lines)
    left_out = "paper's formula, gradients a round, seconds, bytes down"
    assert left_out in " ".join(" ".join(lines).split())
    lines = terminal_of(200, *rows)
    assert any(rows[0].name in line and "  4  " in line for line in lines)
    assert "no room" not in " ".join(lines)


def test_what_is_piped_has_every_column_and_a_line_a_run() -> None:
    rows = [full("a name that is long " * 5, bytes_to_target=None), full("b", gradients=90)]
    rows.append(full("c", ended="round 7: a worker is gone", rounds=7))
    lines = piped(*rows, notes=("a note",))
    assert len([line for line in lines if "184 MB" in line]) == len(rows)
    (first,) = [line for line in lines if "a name" in line]
    assert ("a name that is long " * 5).strip() in first
    assert first.rstrip().endswith("12.3  not reached")
    assert any("c" in line and "failed after 7 rounds" in line for line in lines)
    assert len([line for line in lines if "reached" in line]) == 1
    assert lines[-1] == "a note"


def test_a_run_that_failed_has_no_result() -> None:
    diverged = replace(summary_of("a", gap=3.0), ended="round 4: the loss is [nan]", diverged=True)
    failed = replace(summary_of("b", gap=2.0), ended="round 10: a worker is gone")
    cells = cells_of("gap to optimum", diverged, failed, summary_of("c", gap=1.0))
    assert cells == ["diverged", "failed after 10 rounds", "1"]


@pytest.mark.parametrize("measure", ["accuracy", "x" * 80])
def test_a_name_is_shown_whatever_the_formula_and_the_measure(measure: str) -> None:
    row = replace(summary_of("Top-k", **{measure: 0.5}), paper_formula="sum over layers of " * 9)
    stream = io.StringIO()
    Console(file=stream, width=80).print(summary_table([row]))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:1] == ["Top-k"] for line in lines)
    assert "sum over" not in stream.getvalue()


def table_of(*summaries: Summary) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(summary_table(summaries))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("measure", "heading", "label"),
    [
        ("gap", "gap to optimum", "gap to the optimum"),
        ("squared_distance", "squared distance to optimum", "squared distance to the optimum"),
        ("gradient_norm", "gradient norm", "gradient norm"),
        ("accuracy", "test accuracy", "test accuracy"),
        ("f1_score", "test f1 score", "test f1 score"),
    ],
)
def test_measures_have_plain_names(measure: str, heading: str, label: str) -> None:
    table = summary_table([summary_of("run", **{measure: 0.5})])
    assert str(table.columns[1].header).split() == heading.split()
    assert draw({"run": rounds_of(measure, 1, 0.5)}, "title").axes[0].get_ylabel() == label


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0012345678, "0.001235"), (1.23456e-13, "1.23e-13"), (0.5, "0.5"), (-2e-16, "-2e-16")],
)
def test_small_values_take_few_characters(value: float, text: str) -> None:
    assert format_measure("gap", value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((2.3026, "2.303"), (-1.537, "-1.537"), (0.0, "0.000"), (1071.2, "1071")),
        *((12345.6, "1.2e4"), (-1.2e38, "-1.2e38"), (1.5e308, "1.5e308"), (1e-9, "0.000")),
        *((math.nan, "nan"), (-math.inf, "-inf")),
    ],
)
def test_a_loss_takes_few_characters_however_large(value: float, text: str) -> None:
    assert format_loss(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1234, "1.23 kB"), (999_400, "999 kB")),
        *((999_999, "1 MB"), (45_600_000, "45.6 MB"), (2e12, "2 TB")),
    ],
)
def test_sizes_have_three_digits(size: float, text: str) -> None:
    assert format_bytes(size) == text


def cells_of(heading: str, *summaries: Summary) -> list[str]:
    table = summary_table(summaries)
    (column,) = [c for c in table.columns if " ".join(str(c.header).split()) == heading]
    return [" ".join(str(cell).split()) for cell in column.cells]


def test_bytes_up_to_the_target_are_shown_where_there_is_one() -> None:
    target = Target(measure="gap", value=1e-6)
    reached = replace(summary_of("a", gap=1e-9), target=target, bytes_to_target=66_200)
    not_reached = replace(summary_of("b", gap=1e-3), target=target)
    cells = cells_of("bytes up to gap 1e-6", reached, not_reached)
    assert cells == ["66.2 kB", "not reached"]
    assert "bytes up to" not in " ".join(table_of(summary_of("c", gap=1.0)).split())
    accurate = Target(measure="accuracy", value=0.9)
    row = replace(summary_of("d", accuracy=0.95), target=accurate, bytes_to_target=0)
    assert cells_of("bytes up to accuracy 90.0%", row) == ["0 B"]


def test_the_column_of_the_formula_is_there_where_a_run_has_one() -> None:
    none = replace(summary_of("none", gap=1.0), paper_bits_per_value=None)
    assert cells_of("paper's formula", summary_of("some", gap=1.0), none) == ["2", "-"]
    assert "formula" not in table_of(none)


def test_a_table_with_every_column_fits_80_columns_with_room_for_names() -> None:
    target = Target(measure="gap", value=1e-6)
    row = replace(summary_of("MARINA, MLMC s-Top-k", gap=1.234e-13), clock_s=1234.5, target=target)
    lines = terminal_of(80, row)
    assert max(map(len, lines)) <= 80
    assert any("MARINA, MLMC" in line and "1.23e-13" in line and "1234" in line for line in lines)


def test_simulated_seconds_are_shown_in_place_of_others() -> None:
    plain, timed = summary_of("plain", gap=1.0), replace(summary_of("timed", gap=1.0), clock_s=98.5)
    assert "clock" not in table_of(plain)
    assert cells_of("seconds", plain) == ["12.3"]
    assert cells_of("clock seconds", plain, timed) == ["-", "98.5"]
    assert "12.3" not in table_of(plain, timed)
    rounds = rounds_of("gap", 1, 0.5, 0.25)
    ticking = [{**metrics, "clock_s": 3.0 * metrics["round"]} for metrics in rounds]
    panel = draw({"timed": ticking}, "title").axes[1]
    assert panel.get_xlabel() == "seconds of the clock"
    assert [*panel.lines[0].get_xdata()] == [0.0, 3.0, 6.0]  # type: ignore[misc]
    assert draw({"timed": ticking, "plain": rounds}, "title").axes[1].get_xlabel() == "rounds"
