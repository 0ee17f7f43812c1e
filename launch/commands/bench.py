"""The commands that compare compressors on one vector."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.benching.options import check_device, check_outputs, check_vector_options, yaml_of
from launch.plain_errors import plain_errors

bench = typer.Typer(no_args_is_help=True, help="Measure parts of mlmc_ray on this machine.")

_TABLE_WIDTH = 130
_FRONTIER_WIDTH = 150
_DIM = 10_000_000


@bench.command()
def codecs(
    dim: Annotated[
        int | None,
        typer.Option(min=1, help="Number of values; a gradient has its own.", show_default="10^7"),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="gaussian, laplace, log-normal, or gradient (of --problem).")
    ] = "gaussian",
    problem: Annotated[
        str | None,
        typer.Option(
            help="With --kind gradient only: a kind of a configuration, or a mapping, such as "
            "'{kind: fashion-mnist, network: resnet18}'.",
            show_default="digits",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="A kind, such as mlmc; or how a name in the table begins, with a bracket, such "
            "as 'mlmc(ladder=fixed-point'. May be repeated.",
        ),
    ] = None,
    compressor: Annotated[
        list[str] | None,
        typer.Option(
            "--compressor",
            help="One of your own or with other settings, as in a configuration: "
            "'{kind: my_compressors.Mine, share: 0.3}'. May be repeated; without --only these "
            "are measured alone.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="Messages for sizes and errors, where levels do not tell.")
    ] = 10,
    device: Annotated[
        str, typer.Option(help="Where the vector is: cpu, or cuda. Frames are made on the CPU.")
    ] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
    plot_path: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw error against bits per value here (PNG, PDF, SVG)."),
    ] = None,
) -> None:
    """Compare size, error and speed of every compressor on one vector, with one thread.

    Times are in copies of the vector on its device, measured in the same process, or in ms for
    fewer than a million values; sizes are of frames. Ideal: bits a value under an ideal code.
    Slope: of the mean message on the vector, 1 without bias. Extra memory: the most that
    compressing and encoding took at a time, beside the vector. Sizes and errors of MLMC are exact
    over its levels, those of others means over draws.

    For example:

        mlmc-ray bench codecs --dim 1000000 --only top-k --only mlmc

        mlmc-ray bench codecs --kind gradient --plot rate.png --json rate.json
    """
    console = Console(width=max(_TABLE_WIDTH, Console().width))  # a narrower one loses columns
    with plain_errors(console):
        check_vector_options(dim, kind, problem)
        check_device(device)
        check_outputs(json_path, plot_path)
        _codecs(
            dim or _DIM,
            kind,
            problem or "digits",
            _Choice(only=only or [], own=compressor or []),
            draws,
            device,
            json_path,
            plot_path,
            console,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    """What to measure: kinds or beginnings of names, and descriptions in YAML."""

    only: list[str]
    own: list[str]


def _codecs(
    dim: int,
    kind: str,
    problem: str,
    choice: _Choice,
    draws: int,
    device: str,
    json_path: Path | None,
    plot_path: Path | None,
    console: Console,
) -> None:
    from launch.benching.bench import bench_codecs, vector_of
    from launch.benching.benched import benched, chosen, own
    from launch.benching.codec_report import codec_table, failure_lines, report
    from launch.benching.rate_plot import plot
    from launch.configuration.build import build_problem
    from launch.run_directory import writing

    source = None
    if kind == "gradient":
        value = yaml_of(problem, "--problem")
        source = build_problem(value, "--problem", (str(Path.cwd()),)).load()
    vector, shapes = vector_of(kind, dim, 0, source)  # type: ignore[arg-type]
    added = [own(yaml_of(text, "--compressor"), shapes, (str(Path.cwd()),)) for text in choice.own]
    listed = chosen(benched(shapes), choice.only) if choice.only or not added else []
    named = f"gradient of {problem}" if kind == "gradient" else kind
    found = bench_codecs([*listed, *added], vector.to(device), draws, console)
    console.print(codec_table(found, vector.numel(), named))
    for line in failure_lines(found):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if json_path is not None:
        with writing(json_path):
            text = json.dumps(report(found, vector.numel(), named, device), indent=2)
            json_path.write_text(text + "\n", encoding="utf-8")
    if plot_path is not None:
        with writing(plot_path):
            plot(found.results, plot_path, named)
    if found.failures:
        raise typer.Exit(1)


@bench.command()
def frontier(
    dim: Annotated[
        int | None,
        typer.Option(min=2, help="Number of values; a gradient has its own.", show_default="10^6"),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Of independent entries: gaussian, student-t (3 degrees of freedom) or "
            "log-normal.",
            show_default="gaussian",
        ),
    ] = None,
    gradient: Annotated[
        str | None,
        typer.Option(
            help="A gradient of training instead, as network:round, such as resnet18:60. Networks: "
            "digits; perceptron, cnn and resnet18 on Fashion-MNIST; minilm on movie reviews.",
        ),
    ] = None,
    step_size: Annotated[
        float | None, typer.Option(help="Of SGD, with --gradient.", show_default="0.05")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples a round, with --gradient.", show_default="64")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Holds Fashion-MNIST.",
            show_default="where the problem looks",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Directory that keeps gradients.", show_default="~/.cache/mlmc-ray/gradients"
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="A kind, such as eden or mlmc, or a line of the figure, such "
            "as 'mlmc(s-top-k)'. May be repeated.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="A line: compare the bits that the others need for its errors, between "
            "settings by interpolation."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Messages of each setting.")] = 5,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
    png_path: Annotated[
        Path | None,
        typer.Option(
            "--png",
            "--plot",
            help="Draw error and figure of merit against bits here (PNG, PDF, SVG).",
        ),
    ] = None,
) -> None:
    """Compare error and bits of every unbiased compressor over its settings, on one vector.

    Bits are of whole frames. The figure of merit is R (1 + error), R bits a value: the smaller the
    better. Each setting sends a number of messages, with other draws each.

    For example:

        mlmc-ray bench frontier --only eden --only qsgd --dim 100000

        mlmc-ray bench frontier --gradient digits:60 --against eden --png frontier.png
    """
    console = Console(width=max(_FRONTIER_WIDTH, Console().width))
    with plain_errors(console):
        from launch.benching.frontier_run import FrontierOptions, run_frontier

        options = FrontierOptions(
            dim=dim,
            kind=kind,
            gradient=gradient,
            step_size=step_size,
            batch_size=batch_size,
            data_dir=data_dir,
            cache=cache,
            only=only or [],
            against=against,
            repeats=repeats,
            json_path=json_path,
            png_path=png_path,
        )
        if not run_frontier(options, console):
            raise typer.Exit(1)
