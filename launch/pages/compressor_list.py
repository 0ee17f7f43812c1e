"""What ``mlmc-ray compressors`` says, made from what the code says of itself."""

import inspect
from typing import Any

from launch.benching.benched import benched, square_layers
from launch.configuration.catalogue import KINDS
from launch.configuration.fields import name_of, settings_of
from launch.pages.example_settings import compressor_example
from launch.pages.kind_page import section, summary_of
from mlmc_ray.compressors import Compressor, PermK
from mlmc_ray.ladders import Ladder
from mlmc_ray.laws import LevelLaw

Entries = dict[str, list[str]]
"""The lines on every kind."""

_GROUPS: dict[Any, str] = {
    Compressor: "compressor",
    Ladder: "ladder of mlmc",
    LevelLaw: "law of mlmc",
}
"""In plain words, the shapes of which there are lists."""


def entries(dim: int) -> dict[str, Entries]:
    """Return the groups of kinds, and the lines on every kind in them.

    Args:
        dim: for which the constants are given.
    """
    constants = _constants_of_all(dim)
    return {
        words: {kind: _lines(cls, constants.get(cls, "")) for kind, cls in KINDS[shape].items()}
        for shape, words in _GROUPS.items()
    }


def compressor_sections(kind: str, dim: int) -> list[str]:
    """Return what there is to say about a kind, in Markdown: of each group that has one so called.

    Args:
        kind: of a compressor, a ladder or a law.
        dim: for which the constants are given.
    """
    constants, found = _constants_of_all(dim), []
    for shape, words in _GROUPS.items():
        if cls := KINDS[shape].get(kind):
            known, sources = constants.get(cls), _references(cls)
            facts = [f"what: {words}"]
            facts += [f"constants (d = {dim:,}): {known}"] if known else []
            facts += [f"source: {sources}"] if sources else []
            found.append(section(kind, cls, facts, compressor_example(shape, kind, cls)))
    return found


def compressor_kinds() -> list[str]:
    """Return the names of all compressors, ladders and laws, each once."""
    return list(dict.fromkeys(kind for shape in _GROUPS for kind in KINDS[shape]))


def _lines(cls: type[Any], constants: str) -> list[str]:
    settings = settings_of(cls)
    lines = (
        f"settings: {settings}" if settings else "",
        summary_of(cls),
        constants,
        _references(cls),
    )
    return [line for line in lines if line]


def _constants_of_all(dim: int) -> dict[type[Any], str]:
    """Return what is known of the first compressor of every class that is measured."""
    examples = {
        type(compressor): compressor for compressor in reversed(benched(square_layers(dim)))
    }
    return {cls: _constants(example, dim) for cls, example in examples.items()}


def _constants(example: Compressor, dim: int) -> str:
    values = {"omega": example.omega(dim), "alpha": example.alpha(dim)}
    known = [f"{name} {value:.4g}" for name, value in values.items() if value is not None]
    whether, constant = ("unbiased", "omega") if example.unbiased else ("biased", "alpha")
    if not known:
        known = [f"{constant} not known"]
    workers = f" and {example.num_workers} workers" if isinstance(example, PermK) else ""
    return ", ".join([whether, *known]) + f" for {name_of(example)}{workers}"


def _references(cls: type[Any]) -> str:
    """Return the references in a docstring, on one line."""
    _, _, references = (inspect.getdoc(cls) or "").partition("References:\n")
    return " ".join(references.split())
