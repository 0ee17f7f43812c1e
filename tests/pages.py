"""The pages of the documentation, the blocks of code in them, and how those are tried.

The blocks of a page are tried in their order, in a directory with the configurations and examples:

- a block with a ``title="name"`` is written to a file of that name;
- ``python`` is run, all of a page in one namespace, and prints the indented lines below it, if
  there are any;
- ``yaml`` is read as a configuration, with the keys that it lacks filled in;
- ``console`` lines are checked for being commands with known options, and run if the line above
  the block is ``<!-- run -->``.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main
import yaml
from typer.core import TyperGroup
from typer.testing import CliRunner

from launch.cli import app
from launch.configuration.run_config import load_variants

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"^(?P<run><!-- run -->\n)?"
    r"^```(?P<language>\w+)(?P<words>[^\n]*)\n(?P<text>.*?)^```$"
    r"(?:\n\n(?P<printed>(?:    [^\n]*\n)+))?",
    flags=re.DOTALL | re.MULTILINE,
)
_FILLED_IN: dict[str, Any] = {
    "problem": "digits",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.1},
    "search_paths": ["examples"],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block.

    Attributes:
        language: python, yaml, console or another.
        words: what follows the language.
        text: of the block.
        printed: lines that it prints; None where the page does not say.
        run: whether its commands are to be run.
    """

    language: str
    words: str
    text: str
    printed: list[str] | None
    run: bool

    @property
    def title(self) -> str | None:
        """The name of the file that the block is."""
        found = re.search(r'title="([^"]+)"', self.words)
        return found and found[1]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        printed = found["printed"]
        yield Block(
            language=found["language"],
            words=found["words"],
            text=found["text"],
            printed=[line[4:].rstrip() for line in printed.splitlines()] if printed else None,
            run=bool(found["run"]),
        )


def links_of(page: Path) -> list[str]:
    """Return where the links and pictures of a page lead to, but for addresses and anchors."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text)


def commands_of(block: Block) -> list[list[str]]:
    """Return the words of every line with a prompt."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def check_command(words: list[str]) -> None:
    """Refuse a command that does not exist, or that lacks the options it is given."""
    if words[0].startswith("scripts/"):
        assert (ROOT / words[0]).is_file(), words[0]
    if words[0] != "mlmc-ray":
        return
    command: Any = typer.main.get_command(app)
    context = command.make_context("mlmc-ray", words[1:], resilient_parsing=True)
    rest = words[1:]
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, words
        context = command.make_context(name, list(rest), parent=context)


def run_command(words: list[str]) -> None:
    """Run a command of ours in this process; others are left out."""
    if words[0] == "mlmc-ray":
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, result.output


def check_configuration(text: str, title: str | None) -> None:
    """Refuse YAML that is no configuration, nor a part of one.

    Args:
        text: what may lack the keys that every configuration has; or a compressor by itself.
        title: of the file in the current directory that it is, if it is one.
    """
    given = yaml.safe_load(text) or {}  # a comment alone is nothing
    if not isinstance(given, Mapping):
        raise ValueError(f"expected a mapping, got {given!r:.100}")
    if title is not None and ("problem" in given or "extends" in given):
        load_variants(title)
        return
    values = {**_FILLED_IN, **given}
    if "compressor" in values:
        values["method"] = {"kind": "compressed-sgd", "compressor": values.pop("compressor")}
    if "method" in given and "optimizer" not in given:
        values = _without_optimizer_if_it_moves(values)
    if "clock" in values:
        values["engine"] = "inline"
    load_variants(values)


def _without_optimizer_if_it_moves(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out the optimizer of a method that takes its own steps."""
    from launch.configuration.catalogue import KINDS
    from mlmc_ray.methods import Method

    method = values["method"]
    kind = KINDS[Method].get(method["kind"] if isinstance(method, Mapping) else method)
    if kind is None or not kind.moves_parameters:
        return values
    return {key: value for key, value in values.items() if key != "optimizer"}
