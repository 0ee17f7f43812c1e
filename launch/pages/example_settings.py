"""A block of YAML for every kind that can be copied into a configuration."""

import dataclasses
from typing import Any

import yaml

from launch.benching.benched import benched, square_layers
from launch.configuration.build import describe
from launch.configuration.fields import default_of, settings
from mlmc_ray.compressors import Compressor
from mlmc_ray.laws import LevelLaw
from mlmc_ray.methods.base import has_theory

_MLMC = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 0.01}}
_TOP_K = {"kind": "top-k", "k": 0.01}
_VALUES: dict[str, Any] = {
    "batch": 4,
    "compute_s": 1,
    "downlink": _TOP_K,
    "k": 0.01,
    "local_step_size": 0.05,
    "local_steps": 10,
    "message_s": 0.1,
    "method": {"kind": "ef21-sgdm", "compressor": _TOP_K, "momentum": 1},
    "noise": 1,
    "noise_momentum": 0.1,
    "p_page": 0.1,
    "participants": 2,
}
"""Of the settings of methods that have no default."""
_MORE: dict[str, dict[str, Any]] = {"vr-marina": {"p": 0.01}, "ef21-sgdm": {"momentum": 1}}
"""Settings with a default that the example needs all the same."""
_LAWS: dict[str, dict[str, Any]] = {
    "own": {"ladder": "fixed-point", "law": "own"},
    "given": {
        "ladder": {"kind": "s-top-k", "segment_size": 0.5},
        "law": {"kind": "given", "values": [0.5, 0.5]},
    },
}
"""What an example of a law needs besides its name."""
_DIM = 1_000_000


class _Written(yaml.SafeDumper):
    """Writes what occurs twice twice, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def method_example(kind: str, cls: type[Any]) -> str:
    """Return YAML with a method, and what it needs besides: an optimizer or a clock.

    Args:
        kind: of the method.
        cls: its class.
    """
    values = {**_VALUES, "compressor": _TOP_K if cls.facts.compressor == "contractive" else _MLMC}
    needed = {field.name: values[field.name] for field in settings(cls) if not _has_default(field)}
    example: dict[str, Any] = {"method": {"kind": kind, **needed, **_MORE.get(kind, {})}}
    if not cls.moves_parameters:
        step_size = "theory" if has_theory(cls) else 0.1
        example["optimizer"] = {"kind": "sgd", "step_size": step_size}
    if cls.asynchronous:
        example |= {"engine": "inline", "clock": {"compute_s": 1}}
    return _yaml(example)


def compressor_example(shape: Any, kind: str, cls: type[Any]) -> str:
    """Return YAML with a compressor, or with one that has this ladder or law.

    Args:
        shape: ``Compressor``, ``Ladder`` or ``LevelLaw``.
        kind: of that shape.
        cls: its class.
    """
    if shape is LevelLaw:
        return _yaml({"compressor": {**_MLMC, **_LAWS.get(kind, {"law": kind})}})
    for compressor in benched(square_layers(_DIM)):
        part = compressor if shape is Compressor else getattr(compressor, "ladder", None)
        if type(part) is cls:
            return _yaml({"compressor": _described(compressor)})
    raise LookupError(f"{kind} is not measured, so there is no example of it")


def _described(value: Any) -> Any:
    """Return the mapping that describes an object, or its kind, without what is by default."""
    whole = describe(value)
    given = {"kind": whole["kind"]}
    for field in settings(type(value)):
        part = getattr(value, field.name)
        if part != default_of(field):
            own = dataclasses.is_dataclass(part)
            given[field.name] = _described(part) if own else whole[field.name]
    return given if len(given) > 1 else given["kind"]


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return default_of(field) is not dataclasses.MISSING


def _yaml(values: dict[str, Any]) -> str:
    dumped: str = yaml.dump(
        values, Dumper=_Written, sort_keys=False, default_flow_style=None, width=100
    )
    return dumped
