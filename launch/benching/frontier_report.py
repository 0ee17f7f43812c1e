"""Error against bits as tables, and as a mapping for JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from launch.benching.codec_report import wrapped
from launch.benching.frontier import Frontier, Point, bits_at_error, with_error
from launch.benching.measuring import machine
from launch.display.units import format_bytes

_NOTABLE = 0.02  # of a mean, a standard error that is worth showing


def frontier_table(frontier: Frontier, dim: int, vector: str) -> Table:
    """Return a row for every setting."""
    table = _table(
        f"{dim:,} values, {vector}",
        "R: bits a value of the whole frame. Error: omega = |e|² / |v|², e = C(v) - v. Merit: "
        "R (1 + omega). CV: standard deviation of |C(v)| over its mean. Cosine: mean of "
        "<e, v> over |v| and the root mean square of |e|. Neighbours: mean of e_j e_(j+1) over "
        "that of e_j². ± standard error, where above 2%.",
    )
    for column in ("frame", "bits R", "error", "merit", "CV", "cosine", "neighbours"):
        table.add_column(column, justify="right", no_wrap=True)
    for points in frontier.lines().values():
        for number, point in enumerate(points, 1):
            table.add_row(*_cells(point), end_section=number == len(points))
    for failure in frontier.failures:
        table.add_row(Text(wrapped(failure.name)), "failed")
    return table


def equal_error_table(frontier: Frontier, against: str) -> Table:
    """Return the bits a value of every line at the errors of one, and how many times its bits."""
    table = _table(
        f"bits a value at the errors of {against}",
        f"In brackets: times those of {against}. -: beyond the errors that were measured; between "
        "them the logarithms are interpolated.",
    )
    reference = with_error(frontier.lines()[against])
    for point in reference:
        table.add_column(f"error\n{point.relative_error:.3g}", justify="right", no_wrap=True)
    found = equal_errors(frontier, against)
    for line in frontier.lines():
        pairs = zip(found[line], reference, strict=True)
        cells = [_times(bits, point.bits_per_value) for bits, point in pairs]
        table.add_row(Text(line), *cells)
    return table


def equal_errors(frontier: Frontier, against: str) -> dict[str, list[float | None]]:
    """Return for every line its bits a value at the errors of one; None beyond what was measured.

    Args:
        frontier: what was measured.
        against: the line whose errors they are, in its order, without those that are rounding.
    """
    lines = frontier.lines()
    errors = [point.relative_error for point in with_error(lines[against])]
    return {
        line: [bits_at_error(points, error) for error in errors] for line, points in lines.items()
    }


def frontier_report(
    frontier: Frontier, dim: int, vector: Mapping[str, Any], against: str | None
) -> dict[str, Any]:
    """Return the results with machine and versions, for JSON.

    Args:
        frontier: what was measured.
        dim: number of values.
        vector: what says which vector it was.
        against: a line whose errors the others are compared at; None for no comparison.
    """
    return {
        "dim": dim,
        "vector": dict(vector),
        "machine": machine(),
        "points": [asdict(point) for point in frontier.points],
        "failures": [asdict(failure) for failure in frontier.failures],
        "against": against,
        "bits_at_equal_error": None if against is None else equal_errors(frontier, against),
    }


def _table(title: str, caption: str) -> Table:
    table = Table(
        title=Text(title),
        caption=Text(caption),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("compressor", no_wrap=True)
    return table


def _cells(point: Point) -> tuple[Text | str, ...]:
    return (
        Text(wrapped(point.name)),
        format_bytes(point.frame_bytes),
        _mean(point.bits_per_value, point.bits_standard_error),
        _mean(point.relative_error, point.error_standard_error),
        f"{point.merit:.3g}",
        *(
            "-" if value is None else f"{value:.2g}"
            for value in (point.norm_variation, point.error_cosine, point.neighbour_correlation)
        ),
    )


def _mean(value: float, spread: float) -> str:
    shown = f"{value:.3g}"
    return shown if spread <= _NOTABLE * abs(value) else f"{shown} ±{spread:.1g}"


def _times(bits: float | None, reference: float) -> str:
    return "-" if bits is None else f"{bits:.3g} ({bits / reference:.2f})"
