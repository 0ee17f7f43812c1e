"""What the command `methods` says, and the page that it makes."""

import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.catalogue import KINDS
from launch.cli import app
from mlmc_ray.methods import Method

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def printed(*options: str) -> str:
    result = CliRunner().invoke(app, ["methods", *options], env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_is_what_the_command_prints() -> None:
    """After a change: `python -m launch methods --markdown > docs/methods.md`."""
    assert PAGE.read_text(encoding="utf-8") == printed("--markdown")


def test_every_kind_and_its_source_are_listed() -> None:
    table = printed()
    for kind, method in KINDS[Method].items():
        assert f" {kind} " in table
        assert method.facts.reference.split(";")[0] in table


@pytest.mark.parametrize("kind", KINDS[Method])
def test_the_docstring_of_a_method_has_its_update(kind: str) -> None:
    text = inspect.getdoc(KINDS[Method][kind]) or ""
    update = text.partition("\nArgs:")[0]
    wraps_another = kind == "partial-participation"
    assert wraps_another or re.search(r"<-|send| = |C_i\(", update)
