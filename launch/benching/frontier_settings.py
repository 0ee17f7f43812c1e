"""What ``mlmc-ray bench frontier`` measures: unbiased compressors, each with several settings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from launch.benching.benched import Shapes, benched, own
from launch.configuration.build import nearest
from launch.configuration.fields import name_of
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import ConfigError

_FRACTIONS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # of the entries
_BUCKETS = (65536, 16384, 4096, 1024, 256, 64)
_DRAWS = (1, 2, 4, 8, 16)  # of levels
_HEADER_BYTES, _LAYER_BYTES = 64, 6  # about what a message from shared draws has at least
_BITS = (0.01, 0.03, 0.1, 0.3, 1.0, 1.5, 2.0, 3.0)
_RMS = (100.0, 30.0, 10.0, 5.0, 3.0, 2.0, 1.0, 0.5)  # multiples of the root mean square
Description = Mapping[str, Any]
"""Of a compressor, as in a configuration."""

SETTINGS: dict[str, list[Description]] = {
    "rand-k": [{"kind": "rand-k", "k": k} for k in _FRACTIONS],
    "bernoulli": [{"kind": "bernoulli", "p": p} for p in _FRACTIONS],
    "top-rand": [{"kind": "top-rand", "k": k} for k in _FRACTIONS],
    "importance": [{"kind": "importance", "draws": draws} for draws in (*_FRACTIONS, 0.3)],
    "optimal-sparse": [{"kind": "optimal-sparse", "k": k} for k in (*_FRACTIONS, 0.3)],
    "unbiased-rounding": [{"kind": "unbiased-rounding", "base": b} for b in (2, 4, 16, 128, 1024)],
    "exponential-dithering": [
        {"kind": "exponential-dithering", "levels": levels} for levels in (1, 3, 5, 7, 9, 12)
    ],
    "standard-dithering": [
        {"kind": "standard-dithering", "levels": levels} for levels in (1, 4, 16, 64, 256, 1024)
    ],
    "qsgd": [
        *({"kind": "qsgd", "levels": 1, "bucket_size": size} for size in _BUCKETS),
        *({"kind": "qsgd", "levels": levels, "bucket_size": 64} for levels in (2, 4, 8)),
    ],
    "per-bucket(terngrad)": [
        {"kind": "per-bucket", "compressor": {"kind": "terngrad"}, "bucket_size": size}
        for size in _BUCKETS
    ],
    "sparse-dithering": [
        {"kind": "sparse-dithering", "nu": nu} for nu in (1000.0, 300.0, 100.0, 30.0, 10.0, 1, 0.05)
    ],
    "eden": [{"kind": "eden", "bits": bits} for bits in _BITS],
    "per-layer(eden)": [
        {"kind": "per-layer", "compressor": {"kind": "eden", "bits": bits}} for bits in _BITS
    ],
    "shared-thresholds": [{"kind": "shared-thresholds", "bits_per_value": bits} for bits in _BITS],
    "shared-directions": [{"kind": "shared-directions", "bits_per_value": bits} for bits in _BITS],
    "induced": [
        {
            "kind": "induced",
            "contractive": {"kind": "top-k", "k": k / 2},
            "correction": {"kind": "rand-k", "k": k / 2},
        }
        for k in _FRACTIONS
    ],
    "mlmc(s-top-k)": [
        {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": size}} for size in _FRACTIONS
    ],
    "mlmc(s-top-k, contiguous)": [
        {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": size, "contiguous": True}}
        for size in _FRACTIONS
    ],
    "mlmc(top-k)": [
        {"kind": "mlmc", "ladder": {"kind": "top-k"}, "draws": draws}
        for draws in (16, 64, 256, 1024)
    ],
    "mlmc(thresholds)": [
        {"kind": "mlmc", "ladder": {"kind": "thresholds", "rms": rms}} for rms in _RMS
    ],
    "mlmc(thresholds, cost-aware)": [
        {"kind": "mlmc", "ladder": {"kind": "thresholds", "rms": rms}, "law": "cost-aware"}
        for rms in _RMS[2:]
    ],
    "mlmc(geometric)": [
        {"kind": "mlmc", "ladder": {"kind": "geometric", "first": k, "tail_segment": 8 * k}}
        for k in _FRACTIONS
    ],
    "mlmc(fixed-point)": [
        {"kind": "mlmc", "ladder": {"kind": "fixed-point"}, "draws": draws} for draws in _DRAWS
    ],
    "mlmc(floating-point)": [
        {"kind": "mlmc", "ladder": {"kind": "floating-point"}, "draws": draws}
        for draws in (1, 2, 4)
    ],
    "mlmc(ecuq)": [
        {"kind": "mlmc", "ladder": {"kind": "ecuq", "construction": "unbiased", **more}, "draws": n}
        for more, n in (({"budgets": [1]}, 1), ({"budgets": [1, 2]}, 1), ({}, 1), ({}, 4))
    ],
    "per-layer(mlmc(rank))": [
        {"kind": "per-layer", "compressor": {"kind": "mlmc", "ladder": "rank", "draws": draws}}
        for draws in (1, 4, 16)
    ],
    "mlmc(rtn)": [
        {"kind": "mlmc", "ladder": {"kind": "rtn", "construction": "nested-unbiased"}, "draws": n}
        for n in _DRAWS
    ],
    "mlmc(refinement)": [
        {
            "kind": "mlmc",
            "ladder": {
                "kind": "refinement",
                "compressor": {"kind": "top-k", "k": k},
                "steps": 3,
                "top": {"kind": "rand-k", "k": k},
            },
        }
        for k in _FRACTIONS
    ],
    "random-truncation(fixed-point)": [
        {"kind": "random-truncation", "ladder": {"kind": "fixed-point"}}
    ],
    "random-truncation(geometric)": [
        {"kind": "random-truncation", "ladder": {"kind": "geometric", "first": k}}
        for k in (0.001, 0.1)
    ],
}
"""By line of the figure, the settings that span about 0.01 to 3 bits a value.

The name of a line is a kind, with what tells it from other lines of that kind in brackets. Levels
have the adaptive law where the name says no other: under laws with rare levels of much weight, such
as the own law of ``fixed-point``, a few messages say little about the mean error. That is why the
cost-aware law is there only for steps up to ten times the root mean square.
"""


def lines(layer_shapes: Shapes, only: Sequence[str] = ()) -> dict[str, list[Compressor]]:
    """Return the compressors of every line, bound to the layers of a vector.

    An unbiased kind without settings above is there with those of ``bench codecs``. ``lazy`` is
    not: a few of its messages, most of which may be empty, say little about the mean.

    Args:
        layer_shapes: of the vector.
        only: names of lines, or kinds, which stand for all their lines; all where there are none.

    Raises:
        ConfigError: one of them is no line; lists the names.
    """
    common = _with_common_settings(layer_shapes)
    names = chosen([*SETTINGS, *common], only, "--only")
    return {
        name: [
            own(description, layer_shapes, ())
            for description in SETTINGS[name]
            if _has_room(description, layer_shapes)
        ]
        if name in SETTINGS
        else common[name]
        for name in names
    }


def _has_room(description: Description, layer_shapes: Shapes) -> bool:
    """Return whether messages of a vector may be as short as a setting wants them."""
    dim = sum(math.prod(shape) for shape in layer_shapes)
    header = _HEADER_BYTES + _LAYER_BYTES * len(layer_shapes)
    wanted = description.get("bits_per_value")
    return wanted is None or wanted * dim / 8 > header


def chosen(names: Sequence[str], words: Sequence[str], option: str) -> list[str]:
    """Return the names of the lines that some words choose; all where there are no words.

    Args:
        names: of lines.
        words: names, or kinds.
        option: that has the words, for the error.

    Raises:
        ConfigError: a word chooses no line; lists the names.
    """
    for word in words:
        if not any(word in (name, kind_of(name)) for name in names):
            raise ConfigError(
                f"{option} {word}: no line is called that{nearest(word, names)}; known are "
                f"{list(names)}"
            )
    return [name for name in names if not words or {name, kind_of(name)} & set(words)]


def kind_of(line: str) -> str:
    """Return the kind of a line's compressors, which begins its name."""
    return line.partition("(")[0]


def _with_common_settings(layer_shapes: Shapes) -> dict[str, list[Compressor]]:
    """Return unbiased compressors of the kinds that no line of ``SETTINGS`` begins with."""
    known = {kind_of(line) for line in SETTINGS}
    found: dict[str, list[Compressor]] = {}
    for compressor in benched(layer_shapes):
        kind = kind_of(name_of(compressor))
        if compressor.unbiased and kind not in known:
            found.setdefault(kind, []).append(compressor)
    return found
