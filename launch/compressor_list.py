"""What ``mlmc-ray compressors`` lists, made from what the code says of itself."""

import inspect
from typing import Any

from launch.benched import benched, square_layers
from launch.catalogue import KINDS
from launch.fields import name_of, settings_of
from mlmc_ray.compressors import Compressor, PermK
from mlmc_ray.ladders import Ladder
from mlmc_ray.laws import LevelLaw

Entries = dict[str, list[str]]
"""The lines on every kind."""


def entries(dim: int) -> dict[str, Entries]:
    """Return the groups of kinds, and the lines on every kind in them.

    Args:
        dim: for which the constants are given.
    """
    measured = benched(square_layers(dim))
    examples = {type(compressor): compressor for compressor in reversed(measured)}
    compressors = {
        kind: _lines(cls, _constants(examples[cls], dim)) for kind, cls in KINDS[Compressor].items()
    }
    ladders = {kind: _lines(cls) for kind, cls in KINDS[Ladder].items()}
    laws = {kind: _lines(cls) for kind, cls in KINDS[LevelLaw].items()}
    return {"compressor": compressors, "ladder of mlmc": ladders, "law of mlmc": laws}


def _lines(cls: type[Any], constants: str = "") -> list[str]:
    settings = settings_of(cls)
    summary, references = _documented(cls)
    lines = (f"settings: {settings}" if settings else "", summary, constants, references)
    return [line for line in lines if line]


def _constants(example: Compressor, dim: int) -> str:
    values = {"omega": example.omega(dim), "alpha": example.alpha(dim)}
    known = [f"{name} {value:.4g}" for name, value in values.items() if value is not None]
    whether = "unbiased" if example.unbiased else "biased"
    workers = f" and {example.num_workers} workers" if isinstance(example, PermK) else ""
    return ", ".join([whether, *known]) + f" for {name_of(example)}{workers}"


def _documented(cls: type[Any]) -> tuple[str, str]:
    """Return the first paragraph of a docstring, and its references, each on one line."""
    text = inspect.getdoc(cls) or ""
    _, _, references = text.partition("References:\n")
    return " ".join(text.partition("\n\n")[0].split()), " ".join(references.split())
