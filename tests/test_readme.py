"""The README is true: its Python blocks run, its links lead somewhere, its names exist."""

import dataclasses
import re
from pathlib import Path

import pytest

from launch.catalogue import KINDS, PROBLEMS
from launch.config import RunConfig
from launch.fields import settings

_ROOT = Path(__file__).parents[1]
_TEXT = (_ROOT / "README.md").read_text(encoding="utf-8")
_PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", _TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("block", _PYTHON_BLOCKS)
def test_python_block_runs(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_ROOT)
    exec(compile(block, "README.md", "exec"), {})


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", _TEXT)
    assert links
    assert [link for link in links if not (_ROOT / link).exists()] == []


def test_every_kind_is_named() -> None:
    names = {name for kinds in KINDS.values() for name in kinds} | set(PROBLEMS)
    text = _TEXT + (_ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_list_of_keys_is_complete() -> None:
    text = (_ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(RunConfig):
        assert f"| `{field.name}` |" in text
    for cls in {cls for kinds in KINDS.values() for cls in kinds.values()}:
        for field in settings(cls):
            assert re.search(rf"`{field.name}\b", text), (cls, field.name)
    for kinds in KINDS.values():
        assert all(f"`{kind}`" in text for kind in kinds)
