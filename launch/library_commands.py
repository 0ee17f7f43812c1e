"""Commands about the library itself: what compressors there are, and how they compare."""

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.plain_errors import plain_errors
from mlmc_ray.errors import ConfigError

bench = typer.Typer(no_args_is_help=True, help="Measure parts of mlmc_ray on this machine.")

_CONSTANTS_AT = 1_000_000
_TABLE_WIDTH = 110


@bench.callback()
def _group() -> None:
    """Keeps ``codecs`` a command of its own while it is the only one."""


@bench.command()
def codecs(
    dim: Annotated[int, typer.Option(min=1, help="Number of values.")] = 10_000_000,
    kind: Annotated[
        str, typer.Option(help="gaussian, laplace, log-normal, or gradient (of --problem).")
    ] = "gaussian",
    problem: Annotated[
        str,
        typer.Option(
            help="For --kind gradient: a kind of a configuration, or a mapping, such as "
            "'{kind: fashion-mnist, network: resnet18}'."
        ),
    ] = "digits",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Compressors whose name has this in it; may be repeated."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Messages for sizes and errors.")] = 3,
    device: Annotated[
        str, typer.Option(help="Where the vector is: cpu, or cuda. Frames are made on the CPU.")
    ] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
    plot_path: Annotated[
        Path | None, typer.Option("--plot", help="Draw error against bits per value here (PNG).")
    ] = None,
) -> None:
    """Compare size, error and speed of every compressor on one vector, with one thread.

    Times are in copies of the vector on its device, measured in the same process; sizes are of
    frames.

    For example:

        mlmc-ray bench codecs --dim 1000000 --only top-k --only mlmc

        mlmc-ray bench codecs --kind gradient --plot rate.png --json rate.json
    """
    console = Console(width=max(_TABLE_WIDTH, Console().width))  # a narrower one loses columns
    with plain_errors(console):
        _codecs(dim, kind, problem, only or [], draws, device, json_path, plot_path, console)


def _codecs(
    dim: int,
    kind: str,
    problem: str,
    only: list[str],
    draws: int,
    device: str,
    json_path: Path | None,
    plot_path: Path | None,
    console: Console,
) -> None:
    from launch.bench import bench_codecs, codec_table, plot, report, vector_of
    from launch.benched import benched
    from launch.build import build_problem
    from launch.fields import name_of
    from launch.run_directory import writing

    kinds = ("gaussian", "laplace", "log-normal", "gradient")
    if kind not in kinds:
        raise ConfigError(f"--kind {kind}: known are {list(kinds)}")
    _check_device(device)
    source = None
    if kind == "gradient":
        value = _yaml_of(problem, "--problem")
        source = build_problem(value, "--problem", (str(Path.cwd()),)).load()
    vector, shapes = vector_of(kind, dim, 0, source)  # type: ignore[arg-type]
    chosen = [c for c in benched(shapes) if not only or any(word in name_of(c) for word in only)]
    if not chosen:
        raise ConfigError(f"--only {only}: no compressor's name has this in it")
    named = f"gradient of {problem}" if kind == "gradient" else kind
    results = bench_codecs(chosen, vector.to(device), draws, console)
    console.print(codec_table(results, vector.numel(), named))
    if json_path is not None:
        with writing(json_path):
            text = json.dumps(report(results, vector.numel(), named, device), indent=2)
            json_path.write_text(text + "\n", encoding="utf-8")
    if plot_path is not None:
        with writing(plot_path):
            plot(results, plot_path, named)


def _yaml_of(text: str, option: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option} {text}: is not YAML") from error


def _check_device(device: str) -> None:
    """Refuse a device that is unknown or not there.

    Raises:
        ConfigError: quotes the device and says what would do.
    """
    import torch

    if device not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device}: known are ['cpu', 'cuda']")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch finds no CUDA device; leave the option out to use the CPU, or "
            "install a torch with CUDA on a machine with a GPU"
        )


def compressors() -> None:
    """List every compressor, ladder and law: settings, class, constants, source.

    omega bounds the relative variance of an unbiased compressor, alpha the part that a contractive
    one keeps, both for a million parameters; "-" where theory gives none.
    """
    from launch.benched import benched, square_layers
    from launch.catalogue import KINDS
    from launch.fields import settings_of
    from mlmc_ray.compressors import Compressor
    from mlmc_ray.ladders import Ladder
    from mlmc_ray.laws import LevelLaw

    console = Console()
    measured = benched(square_layers(_CONSTANTS_AT))
    examples = {type(compressor): compressor for compressor in reversed(measured)}
    table = Table(title="compressors", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("kind", "settings", "class", "omega", "alpha", "source"):
        table.add_column(column, overflow="fold")
    for name, cls in KINDS[Compressor].items():
        example = examples[cls]
        table.add_row(
            name,
            Text(settings_of(cls)),
            "unbiased" if example.unbiased else "biased",
            _number(example.omega(_CONSTANTS_AT)),
            _number(example.alpha(_CONSTANTS_AT)),
            Text(_source(cls)),
        )
    console.print(table)
    for shape, title in ((Ladder, "ladders of mlmc"), (LevelLaw, "laws of mlmc")):
        listed = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("kind", "settings", "source"):
            listed.add_column(column, overflow="fold")
        for name, cls in KINDS[shape].items():
            listed.add_row(name, Text(settings_of(cls)), Text(_source(cls)))
        console.print(listed)


def methods(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/methods.md instead.")
    ] = False,
) -> None:
    """List every method: compressor, traffic, memory, guarantee, source.

    d is the number of parameters, C a compressed vector; memory is beside the parameters and the
    optimizer's own.
    """
    from launch.catalogue import KINDS
    from launch.methods_page import methods_page
    from mlmc_ray.methods import Method

    if markdown:
        typer.echo(methods_page(), nl=False)
        return
    table = Table(title="methods", box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("compressor; traffic a round and worker; memory; guarantee; source")
    for name, cls in KINDS[Method].items():
        facts = cls.facts
        first = f", and first {facts.first}" if facts.first else ""
        lines = (
            f"compressor {facts.compressor}; up {facts.uplink}; down {facts.downlink}{first}; "
            f"memory {facts.worker_memory}, of the server {facts.server_memory}",
            facts.guarantee,
            facts.reference,
        )
        table.add_row(name, Text("\n".join(lines)))
    Console().print(table)


def _source(cls: type[Any]) -> str:
    """Return the references of a docstring, or nothing."""
    _, _, references = (inspect.getdoc(cls) or "").partition("References:\n")
    return " ".join(references.split())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
