"""The comparison of compressors as a table, and as a mapping for JSON."""

import re
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from launch.benching.bench import Comparison
from launch.benching.codec_result import CodecResult
from launch.benching.measuring import machine
from launch.display.units import format_bytes

_NAME_WIDTH = 36
_SMALL = 1_000_000  # values, below which a copy is too short to be a unit


def codec_table(comparison: Comparison, dim: int, kind: str) -> Table:
    """Return the results as a table; times are in copies, or in ms for short vectors."""
    small = dim < _SMALL
    unit = "ms" if small else "copies of the vector"
    table = Table(
        title=f"{dim:,} values, {kind}; times in {unit}; one copy takes "
        f"{comparison.copy_ms:.3g} ms",
        caption="* claims to be unbiased. Sizes and errors are means over messages: 'all 50', "
        "those of 50 levels with their probabilities, exactly (a ladder's own draws are made "
        "once); or '10 drawn', with the standard error where it is above 0.1%.",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("")
    table.add_column("compressor", min_width=_NAME_WIDTH)
    columns = ("compress,\nencode", "decode,\nadd", "frame", "bits a\nvalue", "ideal")
    for column in (*columns, "relative\nerror", "slope", "extra\nmemory", "messages"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in comparison.results:
        table.add_row(*_cells(row, small))
    for failure in comparison.failures:
        table.add_row("", Text(wrapped(failure.name)), "failed")
    return table


def failure_lines(comparison: Comparison) -> list[str]:
    """Return a line on every compressor that failed, with the reason."""
    return [f"{failure.name} failed: {failure.reason}" for failure in comparison.failures]


def report(comparison: Comparison, dim: int, kind: str, device: str = "cpu") -> dict[str, Any]:
    """Return the results with machine, versions and the time of a copy, for JSON."""
    return {
        "dim": dim,
        "kind": kind,
        "device": device,
        "threads": 1,
        "copy_ms": comparison.copy_ms,
        "machine": machine(device),
        "compressors": [asdict(row) for row in comparison.results],
        "failures": [asdict(row) for row in comparison.failures],
    }


def wrapped(name: str) -> str:
    """Break a compressor's name after brackets and commas only, into lines of at most 36."""
    lines = [""]
    for piece in re.findall(r"[^(, ]+[(,]?|.", name):
        if len(lines[-1] + piece) > _NAME_WIDTH and lines[-1].strip():
            lines.append("  ")
        lines[-1] += piece if lines[-1].strip() else piece.lstrip()
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: CodecResult, small: bool) -> tuple[Text | str, ...]:
    times = (
        (f"{row.compress_ms:.3g}", f"{row.decode_ms:.3g}")
        if small
        else (f"{row.compress_copies:.1f}", f"{row.decode_copies:.1f}")
    )
    return (
        "*" if row.unbiased else "",
        Text(wrapped(row.name)),
        *times,
        format_bytes(row.frame_bytes),
        f"{row.bits_per_value:.3g}",
        f"{row.ideal_bits_per_value:.3g}",
        error_of(row),
        f"{row.slope:.2f}",
        "-" if row.extra_bytes is None else format_bytes(row.extra_bytes),
        messages_of(row),
    )


def error_of(row: CodecResult) -> str:
    """Return the relative error, with its standard error where that matters."""
    spread = row.error_standard_error or 0.0
    shown = f"{row.relative_error:.3g}"
    if spread <= 1e-3 * row.relative_error:
        return shown
    return f"{shown} ±{spread:.0f}" if spread >= 10 else f"{shown} ±{spread:.1g}"


def messages_of(row: CodecResult) -> str:
    """Return what the means are over, in the words of the table's caption."""
    return f"{row.draws} drawn" if row.levels is None else f"all {row.levels}"
