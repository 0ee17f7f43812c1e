"""Commands that say what methods, compressors, ladders and laws there are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from launch.plain_errors import plain_errors
from mlmc_ray.errors import ConfigError

_CONSTANTS_AT = 1_000_000

Name = Annotated[
    str | None, typer.Argument(help="Say all about this kind.", metavar="NAME", show_default="all")
]


def compressors(name: Name = None) -> None:
    """List every compressor, ladder and law: settings, what it does, constants, source.

    With a name: all about that one, and an example.

    omega bounds the relative variance of an unbiased compressor, alpha the part that a contractive
    one keeps; both are for a million values, the second of 8 workers and the settings given after
    "for", and left out where theory gives none. Not on a terminal, every kind is one line.

    For example:

        mlmc-ray compressors

        mlmc-ray compressors eden
    """
    from launch.pages.compressor_list import compressor_kinds, compressor_sections, entries

    console = Console()
    if name is not None:
        with plain_errors(console):
            _check_name("compressors", name, compressor_kinds())
        _show(console, "\n".join(compressor_sections(name, _CONSTANTS_AT)))
        return
    for group, listed in entries(_CONSTANTS_AT).items():
        at = f"d = {_CONSTANTS_AT:,}"
        heading = f"settings with defaults; what it does; constants ({at}); source"
        _list(console, f"{group}, {at}", f"{group}: every kind", heading, listed)


def methods(
    name: Name = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/methods.md instead.")
    ] = False,
) -> None:
    """List every method by family: what it does, and whether theory knows its step size.

    With a name: all about that one, with its settings, its traffic, its memory, its guarantee and
    an example. Not on a terminal, every method is one line.

    For example:

        mlmc-ray methods

        mlmc-ray methods diana
    """
    from launch.configuration.catalogue import KINDS
    from launch.configuration.fields import settings_of
    from launch.pages.kind_page import summary_of
    from launch.pages.methods_page import families, method_section, methods_page, theory_in_words
    from mlmc_ray.methods import Method

    console = Console()
    if name is not None:
        with plain_errors(console):
            if markdown:
                raise ConfigError(f"methods {name}: leave --markdown out, or the name")
            _check_name("methods", name, KINDS[Method])
        _show(console, method_section(name))
        return
    if markdown:
        typer.echo(methods_page(), nl=False)
        return
    for family, listed in families().items():
        lines = {}
        for kind, cls in listed.items():
            settings = settings_of(cls)
            more = [] if console.is_terminal else [f"settings: {settings}", cls.facts.reference]
            lines[kind] = [summary_of(cls), theory_in_words(cls), *(more if settings else more[1:])]
        _list(console, family, family, "what it does; theory", lines)


def _show(console: Console, text: str) -> None:
    """Print Markdown, rendered on a terminal."""
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text, nl=False)


def _list(
    console: Console, group: str, title: str, heading: str, listed: Mapping[str, Sequence[str]]
) -> None:
    """Print the lines on every kind of a group: a table, or not on a terminal a line each."""
    if not console.is_terminal:
        for kind, lines in listed.items():
            typer.echo(f"{kind} ({group}): {'; '.join(lines)}")
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    table.add_column("kind", no_wrap=True)
    table.add_column(heading)
    for kind, lines in listed.items():
        table.add_row(kind, Text("\n".join(lines)))
    console.print(table)


def _check_name(command: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is no kind.

    Raises:
        ConfigError: suggests the nearest, and lists all.
    """
    from launch.configuration.build import nearest

    names = list(known)
    if name not in names:
        raise ConfigError(f"{command}: unknown {name!r}{nearest(name, names)}; known are {names}")
