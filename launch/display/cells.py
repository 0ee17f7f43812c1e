"""What the cells of the final table say."""

from collections.abc import Sequence

from launch.comparing.over_seeds import OverSeeds
from launch.comparing.target import Target
from launch.display.units import format_bytes
from launch.metrics import format_measure
from launch.summary import Summary

Row = Summary | OverSeeds
"""A run, or an entry that was run with several seeds."""


def mean_of(row: Row) -> Summary:
    """Return a row of numbers: a run's own, or the means over seeds."""
    return row.mean() if isinstance(row, OverSeeds) else row


def result_of(row: Row, measure: str) -> str:
    """Return what a run came to, or the mean and the spread of several seeds."""
    if isinstance(row, OverSeeds):
        return _result_over_seeds(row, measure)
    if row.diverged:
        return "diverged"
    if row.ended:
        return f"failed after\n{row.rounds} rounds"
    return format_measure(measure, row.measures[measure])


def _result_over_seeds(row: OverSeeds, measure: str) -> str:
    mean = row.mean()
    if not row.whole:
        return "diverged" if mean.diverged else "failed"
    parts = [mean.measures[measure], row.spread(measure)]
    shown = " ± ".join(format_measure(measure, part) for part in parts if part is not None)
    if len(row.whole) == len(row.runs):
        return shown
    return f"{shown}\n{len(row.whole)} of {len(row.runs)} seeds"


def columns_of(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return what the table says of bytes and time: headings, and a cell for every row."""
    summaries = [mean_of(row) for row in rows]
    columns = {
        "bytes\nup": [format_bytes(row.uplink_bytes) for row in summaries],
        "bytes\ndown": [format_bytes(row.downlink_bytes) for row in summaries],
        "bits per\nvalue": [f"{row.bits_per_value:.3g}" for row in summaries],
    }
    if any(row.mean_level is not None for row in summaries):
        columns["mean\nlevel"] = [_level(row) for row in summaries]
    if any(row.estimated_interface for row in summaries):
        columns["interface,\nestimated"] = [_interface(row) for row in summaries]
    paper = [row.paper_bits_per_value for row in summaries]
    if any(bits is not None for bits in paper):
        columns["paper's\nformula"] = ["-" if bits is None else f"{bits:.3g}" for bits in paper]
    computed = [row.gradients / max(1, row.rounds) for row in summaries]
    if max(computed) > min(computed):
        columns["gradients\na round"] = [f"{number:.3g}" for number in computed]
    clocks = [row.clock_s for row in summaries]
    if any(clock_s is not None for clock_s in clocks):
        columns["clock\nseconds"] = ["-" if s is None else f"{s:.4g}" for s in clocks]
    else:
        columns["seconds"] = [f"{row.seconds:.1f}" for row in summaries]
    if target := summaries[0].target:
        columns[_heading(target)] = [_sent_to_target(row) for row in rows]
    return columns


def _level(row: Summary) -> str:
    return "-" if row.mean_level is None else f"{row.mean_level:.3g}"


def _sent_to_target(row: Row) -> str:
    """Return bytes; of several seeds the mean, how many reached it, and the range of those."""
    sent = mean_of(row).bytes_to_target
    if sent is None:
        return "not\nreached"
    if not isinstance(row, OverSeeds):
        return format_bytes(sent)
    ends = " to ".join(format_bytes(end) for end in (min(row.reached), max(row.reached)))
    return f"{format_bytes(sent)},\n{len(row.reached)} of {len(row.runs)},\n{ends}"


def _interface(row: Summary) -> str:
    """Return bytes up and down, all headers included."""
    if row.estimated_interface is None:
        return "-"
    up, down = (format_bytes(row.estimated_interface[way]) for way in ("uplink", "downlink"))
    return f"{up} up,\n{down} down"


def _heading(target: Target) -> str:
    words = str(target).replace("_", "\n").replace(" ", "\n")
    return f"bytes up\nto {words}"
