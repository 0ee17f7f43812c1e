"""The tables of docs/performance.md and docs/paper.md, written from the files of results.

    python -m benchmarks.tables              # all
    python -m benchmarks.tables codecs       # one

Each stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.paper.report import tables as tables_of_runs
from benchmarks.paper.runs import runs_in
from benchmarks.paper.standing import standings
from launch.benching.codec_report import error_of, messages_of
from launch.benching.codec_result import CodecResult
from launch.display.units import format_bytes

_ROOT = Path(__file__).parent.parent
_DOCS = _ROOT / "docs"
_RESULTS = _ROOT / "benchmarks" / "results"
_LEVELS = 12  # of bit planes that are shown
_CODECS = (
    "top-k(k=0.01)",
    "rand-k(k=0.01)",
    "optimal-sparse(k=0.01)",
    "natural",
    "qsgd(levels=4)",
    "terngrad",
    "rtn(bits=4)",
    "scaled-sign",
    "eden(bits=1)",
    "eden(bits=2)",
    "mlmc(ladder=s-top-k(segment_size=0.01))",
    "mlmc(ladder=fixed-point, law=own)",
    "mlmc(ladder=geometric(first=0.001))",
)
Results = dict[str, Any]


def codecs(results: Results) -> list[str]:
    """Return some rows of ``mlmc-ray bench codecs``."""
    rows = [CodecResult(**values) for values in results["compressors"]]
    head = ("compress, encode", "decode, add", "kB", "bits a value", "ideal", "relative error")
    shown = (
        (
            f"`{row.name}`",
            f"{row.compress_copies:.1f}",
            f"{row.decode_copies:.1f}",
            f"{row.frame_bytes / 1000:,.0f}",
            f"{row.bits_per_value:.3g}",
            f"{row.ideal_bits_per_value:.3g}",
            error_of(row),
            messages_of(row),
        )
        for row in rows
        if row.name in _CODECS
    )
    return _table(("", *head, "messages"), shown)


def round_time(results: Results) -> list[str]:
    """Return the medians, and their ratios to the other server's, waiting each round."""
    sizes, reference = results["sizes"], "theirs, waiting each round"
    rows = []
    for name in sizes[0]["round_ms"]:
        cells = [name]
        for size in sizes:
            found = size["round_ms"][name]
            ratio = found.get("ratio_to", {}).get(reference)
            cells.append(f"{found['median']:.3g}" + ("" if ratio is None else f" ({ratio:.2f})"))
        rows.append(cells)
    heads = (f"{size['parameters']:,}, batches of {size['batch_size']}" for size in sizes)
    return _table(("parameters", *heads), rows)


def round_breakdown(results: Results) -> list[str]:
    """Return the median milliseconds of the parts of rounds, and of all that is no work."""
    shown = {
        "round": ("round",),
        "news": ("news",),
        "exchange": ("exchange",),
        "aggregate": ("aggregate",),
        "optimizer": ("optimizer",),
        "driver": ("driver",),
        "send": ("send",),
        "transport": ("transport",),
        "finite, rest": ("finite", "rest"),
        "beside work": ("beside work",),
    }
    rows = []
    for run in results["runs"]:
        sums = (sum(run["ms"][part][1] for part in parts) for parts in shown.values())
        name = f"{run['parameters']:,}, {run['run']}, {run['workers']} workers"
        rows.append([name, *(f"{value:.1f}" for value in sums)])
    return _table(("parameters, run", *shown), rows)


def aggregation(results: Results) -> list[str]:
    """Return copies of the vector that a round's reports take."""
    rows = []
    for kind, found in results["seconds"].items():
        copies = (f"{found[part] / found['copy']:.2f}" for part in ("decode", "average", "all"))
        rows.append([f"`{kind}`", f"{found['frame_bytes']:,}", *copies])
    return _table(("", "bytes each", "decode", "average", "both"), rows)


def plane_sizes(results: Results) -> list[str]:
    """Return the first levels of both gradients, and the means over all."""
    first, last = (gradient["levels"] for gradient in results["gradients"])
    keys = ("bits_per_value", "ideal_bits_per_value")
    rows = []
    for level, pair in enumerate(zip(first[:_LEVELS], last[:_LEVELS], strict=True), start=1):
        cells = [f"{size[key]:.3g}" for size in pair for key in keys]
        rows.append([str(level), f"{pair[0]['probability']:.3g}", *cells])
    for name, plain in (("mean, by the law", False), ("mean of all levels", True)):
        cells = []
        for sizes in (first, last):
            weights = [1 / len(sizes) if plain else size["probability"] for size in sizes]
            for key in keys:
                pairs = zip(weights, sizes, strict=True)
                cells.append(f"{sum(weight * size[key] for weight, size in pairs):.3g}")
        rows.append([name, "", *cells])
    steps = f"after {results['settings']['steps']} steps: frame"
    return _table(("level", "probability", "first: frame", "ideal", steps, "ideal"), rows)


def entropy_coders(results: Results) -> list[str]:
    """Return sizes over the entropy, and times in copies, of both streams."""
    streams = results["streams"]
    rows = []
    for pair in zip(*(stream["coders"] for stream in streams), strict=True):
        cells = [
            text
            for row in pair
            for text in (
                f"{row['over_entropy']:.4f}",
                f"{row['encode_copies']:.1f}",
                f"{row['decode_copies']:.1f}",
            )
        ]
        rows.append([pair[0]["name"], *cells])
    head = [text for stream in streams for text in (f"{stream['name']}: size", "encode", "decode")]
    return _table(("", *head), rows)


def index_sets(results: Results) -> list[str]:
    """Return the sizes of index sets over the ideal."""
    rows = [
        (
            " and ".join(f"{density:g}" for density in row["densities"]),
            f"{row['bytes']:,}",
            f"{row['over_ideal']:.3f}",
        )
        for row in results["sets"]
    ]
    return _table(("density, or of two halves", "bytes", "over log2 C(d, k)"), rows)


def compared(results: Results) -> list[str]:
    """Return the tables of a comparison's panels, and how MLMC stands in each."""
    runs = runs_in(results)
    return ["", *tables_of_runs(runs).splitlines(), "", *standings(runs).splitlines()]


def gaps(rows: Sequence[Results]) -> list[str]:
    """Return what a comparison on a convex problem came to, over its seeds."""
    head = ("gap after the last round", "bytes up", "bytes up to a gap of 1e-6", "mean level")
    shown = (
        (
            row["name"],
            f"{row['measures']['gap']:.2g} ± {row['spreads']['measures']['gap']:.1g}",
            format_bytes(row["uplink_bytes"]),
            format_bytes(row["bytes_to_target"]) if row["reached_target"] else "-",
            "" if row["mean_level"] is None else f"{row['mean_level']:.3g}",
        )
        for row in rows
    )
    return _table(("", *head), shown)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page.

    Attributes:
        page: of docs.
        file: of benchmarks/results.
        lines: makes the table of what is in the file.
    """

    page: str
    file: str
    lines: Callable[[Any], list[str]]

    def written(self, name: str) -> tuple[Path, str]:
        """Return the path of the page, and the page with the table of this name."""
        path = _DOCS / self.page
        results = json.loads((_RESULTS / self.file).read_text(encoding="utf-8"))
        return path, replaced(path.read_text(encoding="utf-8"), name, self.lines(results))


_PERFORMANCE, _PAPER = "performance.md", "paper.md"
TABLES: dict[str, Table] = {
    "codecs": Table(_PERFORMANCE, "codecs-2-cores.json", codecs),
    "round_time": Table(_PERFORMANCE, "round_time-2-cores.json", round_time),
    "round_breakdown": Table(_PERFORMANCE, "round_breakdown-2-cores.json", round_breakdown),
    "aggregation": Table(_PERFORMANCE, "aggregation-2-cores.json", aggregation),
    "plane_sizes": Table(_PERFORMANCE, "plane_sizes.json", plane_sizes),
    "entropy_coders": Table(_PERFORMANCE, "entropy_coders-2-cores.json", entropy_coders),
    "index_sets": Table(_PERFORMANCE, "index_sets.json", index_sets),
    "fig3-small": Table(_PAPER, "paper/fig3-small.json", compared),
    "fig4-small": Table(_PAPER, "paper/fig4-small.json", compared),
    "methods": Table(_PAPER, "paper/methods.json", compared),
    "convex": Table(_PAPER, "paper/convex.json", gaps),
}


def replaced(page: str, name: str, table: Iterable[str]) -> str:
    """Return the page with another table between the marks of a name.

    Raises:
        ValueError: the page does not have both marks.
    """
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = page.partition(opening)
    _, found, after = rest.partition(closing)
    if not found:
        raise ValueError(f"the page has no {opening} with {closing} after it: put them there")
    return "\n".join([before + opening, *table, closing + after])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    cells = list(head)
    lines = [f"| {' | '.join(cells)} |", "| --- |" + " ---: |" * (len(cells) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Some of {', '.join(TABLES)}; else all.")
    ] = None,
) -> None:
    """Rewrite tables of docs/performance.md and docs/paper.md from benchmarks/results."""
    for name in names or TABLES:
        path, page = TABLES[name].written(name)
        path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
