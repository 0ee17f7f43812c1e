"""What the commands `methods` and `compressors` say, and the page that they make."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from launch.cli import app
from launch.configuration.catalogue import KINDS
from launch.configuration.run_config import load_config
from launch.session import check_run
from mlmc_ray.compressors import Compressor
from mlmc_ray.ladders import Ladder
from mlmc_ray.laws import LevelLaw
from mlmc_ray.methods import Method

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
PROBLEM = {"kind": "quadratic", "num_functions": 4, "dim": 200}
TERMINAL = {"COLUMNS": "80", "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb"}


def run(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env=environment or {"COLUMNS": "400"})


def printed(*arguments: str, environment: dict[str, str] | None = None) -> str:
    result = run(*arguments, environment=environment)
    assert result.exit_code == 0, result.output
    return result.output


def example_in(text: str) -> Any:
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    return yaml.safe_load(block)


# All methods.


def test_the_page_is_what_the_command_prints() -> None:
    """After a change: `python -m launch methods --markdown > docs/methods.md`."""
    assert PAGE.read_text(encoding="utf-8") == printed("methods", "--markdown")


def test_every_method_is_listed_on_a_line_with_its_source() -> None:
    lines = printed("methods").splitlines()
    assert len(lines) == len(KINDS[Method])
    for kind, method in KINDS[Method].items():
        (line,) = [line for line in lines if line.startswith(f"{kind} (")]
        needs = getattr(method, "theory_needs", "")
        known = f"known for {needs}" if needs else "known"
        known = "not known" if method.theory is Method.theory else known
        assert f"; step_size: theory is {known};" in line
        assert line.endswith(method.facts.reference)


def test_a_terminal_shows_families_with_headings() -> None:
    shown = printed("methods", environment=TERMINAL)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    headings = [
        *("without memory, or around another method", "error feedback", "learned shifts"),
        *("running estimates", "compressed downlink", "learned compression", "local steps"),
        "workers of different speeds",
    ]
    assert [line.strip() for line in lines if line.strip() in headings] == headings
    assert shown.index("learned shifts") < shown.index(" diana ") < shown.index("running estimates")
    known = sum(method.theory is not Method.theory for method in KINDS[Method].values())
    assert shown.count("theory is known") == known
    assert shown.count("theory is not known") == len(KINDS[Method]) - known


@pytest.mark.parametrize("kind", KINDS[Method])
def test_the_docstring_of_a_method_has_its_update(kind: str) -> None:
    text = inspect.getdoc(KINDS[Method][kind]) or ""
    update = text.partition("\nArgs:")[0]
    wraps_another = kind == "partial-participation"
    assert wraps_another or re.search(r"<-|send| = |C_i\(", update)


def test_the_page_begins_with_a_table_and_has_no_anchors() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(.*)`\]\(#(.*?)\) \|", page, flags=re.MULTILINE)
    assert sorted(kind for kind, _ in rows) == sorted(KINDS[Method])
    assert all(kind == anchor for kind, anchor in rows)
    assert "&id" not in page
    assert re.search(r"(?<!`)``\w", page) is None


def test_a_terminal_shows_a_method_wrapped_and_without_markdown() -> None:
    shown = printed("methods", "diana", environment=TERMINAL)
    assert max(map(len, shown.splitlines())) <= 80
    assert "```" not in shown
    assert "`shift_step" not in shown


# One of them.


@pytest.mark.parametrize("kind", KINDS[Method])
def test_a_method_by_name_is_its_section_of_the_page(kind: str) -> None:
    section = printed("methods", kind)
    assert section.startswith(f"## `{kind}`\n")
    assert f"\n{section}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS[Method])
def test_the_example_of_a_method_can_be_run(kind: str) -> None:
    problem = "digits" if kind == "learned" else PROBLEM  # which needs layers
    engine = "ray" if KINDS[Method][kind].timed else "inline"
    config = load_config(
        {"problem": problem, "engine": engine, **example_in(printed("methods", kind))}
    )
    assert type(config.method) is KINDS[Method][kind]
    check_run(config)


def test_a_section_says_what_the_settings_and_theory_are() -> None:
    section = printed("methods", "rennala")
    assert "  - `batch`: " in section
    assert "  - `compressor: identity`: unbiased" in section
    assert "- step size by theory: known, 1 / (L (1 + omega / S)), from E|g - grad f|^2" in section
    assert "- step size by theory: not known" in printed("methods", "power-sgd")


@pytest.mark.parametrize("shape", [Compressor, Ladder, LevelLaw])
def test_the_examples_of_compressors_are_of_their_kind(shape: Any) -> None:
    for kind, cls in KINDS[shape].items():
        text = printed("compressors", kind)
        blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
        made = []
        for block in blocks:
            method = {"kind": "compressed-sgd", **yaml.safe_load(block)}
            optimizer = {"kind": "sgd", "step_size": 0.1}
            config = load_config({"problem": PROBLEM, "method": method, "optimizer": optimizer})
            compressor = config.method.compressor  # type: ignore[attr-defined]
            parts = [compressor, *(getattr(compressor, name, None) for name in ("ladder", "law"))]
            made += [type(part) for part in parts]
        assert cls in made
        assert text.count(f"## `{kind}`\n") == len(blocks)


def test_a_compressor_by_name_has_its_constants_and_source() -> None:
    text = printed("compressors", "s-top-k")
    assert (
        "- what: compressor\n- constants (d = 1,000,000): biased, alpha 0.01 for s-top-k(k=1"
        in text
    )
    assert "- what: ladder of mlmc\n- source: Zukerman et al., 2025" in text
    assert "  - `contiguous: false`" in text


def test_a_constant_that_theory_does_not_give_is_said_to_be_unknown() -> None:
    expected = "- constants (d = 1,000,000): unbiased, omega not known for eden(bits=1)\n"
    assert expected in printed("compressors", "eden")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("methods", "dianna"), "methods: unknown 'dianna' (did you mean 'diana'?); known are ['s"),
        (("methods", "zzz"), "error: methods: unknown 'zzz'; known are ['sgd', "),
        (("methods", "diana", "--markdown"), "methods diana: leave --markdown out, or the name"),
        (("compressors", "topk"), "compressors: unknown 'topk' (did you mean 'top-k'?); known"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(
    arguments: tuple[str, ...], text: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
