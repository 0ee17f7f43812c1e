"""The README and the list of keys name everything there is; test_docs.py tries what they say."""

import dataclasses
import re

from launch.configuration.catalogue import KINDS, PROBLEMS
from launch.configuration.fields import settings
from launch.configuration.run_config import RunConfig
from tests.pages import ROOT

_README = (ROOT / "README.md").read_text(encoding="utf-8")
_KEYS = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_kind_is_named() -> None:
    names = {name for kinds in KINDS.values() for name in kinds} | set(PROBLEMS)
    assert {name for name in names if f"`{name}`" not in _README + _KEYS} == set()


def test_the_list_of_keys_is_complete() -> None:
    for field in dataclasses.fields(RunConfig):
        assert f"| `{field.name}` |" in _KEYS
    for cls in {cls for kinds in KINDS.values() for cls in kinds.values()}:
        for field in settings(cls):
            assert re.search(rf"`{field.name}\b", _KEYS), (cls, field.name)
    for kinds in KINDS.values():
        assert all(f"`{kind}`" in _KEYS for kind in kinds)
