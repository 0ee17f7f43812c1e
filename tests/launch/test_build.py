"""From mappings to dataclasses and back, for every kind of every shape."""

import dataclasses
from typing import Any

import pytest
import yaml

from launch.build import build, describe
from launch.catalogue import KINDS, PROBLEMS
from mlmc_ray.compressors import Compressor, TopK
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.estimator import MLMC, AdaptiveLaw, LevelLaw
from mlmc_ray.ladders import Ladder, TopKLadder
from mlmc_ray.methods import CompressedSGD, Method
from mlmc_ray.problems import Digits, ProblemSource, Quadratic
from server.optimizers import Optimizer

TOP_K = {"kind": "top-k", "k": 3}
RAND_K = {"kind": "rand-k", "k": 3, "scaled": True}

EXAMPLES: dict[Any, dict[str, dict[str, Any]]] = {
    Method: {
        "sgd": {},
        "compressed-sgd": {"compressor": {"kind": "rand-k", "k": 0.25, "scaled": False}},
        "ef21-sgdm": {"compressor": TOP_K, "momentum": 0.25},
        "power-sgd": {"rank": 3},
        "learned": {
            "k": 0.25,
            "dense_rounds": 1,
            "training_rounds": 2,
            "innovation": 0.5,
            "edge_layers": 0,
            "learning_rate": 0.25,
            "similarity": 0.25,
            "fall_back": False,
        },
    },
    Compressor: {
        "identity": {},
        "top-k": {"k": 3},
        "s-top-k": {"k": 2, "segment_size": 0.125, "contiguous": True},
        "rand-k": {"k": 7, "scaled": False},
        "top-rand": {"k": 3, "top_share": 0.25},
        "fixed-point": {"planes": 4},
        "half": {"format": "fp16"},
        "bernoulli": {"p": 0.25},
        "random-sparse": {"p": 0.25},
        "adaptive-random": {},
        "importance": {"draws": 5},
        "optimal-sparse": {"k": 0.25, "systematic": True},
        "perm-k": {"worker_id": 1, "num_workers": 4, "seed": 9},
        "floating-point": {"mantissa_bits": 3},
        "rtn": {"bits": 4, "nested": True},
        "ecuq": {"bits": 2, "tolerance": 0.25},
        "natural": {"bits": 8},
        "unbiased-rounding": {"base": 3.0},
        "biased-rounding": {"base": 3.0},
        "exponential-dithering": {"levels": 4, "base": 3.0, "norm": 1.0},
        "top-k-dithering": {"k": 0.25, "levels": 4, "base": 3.0, "norm": 1.0},
        "standard-dithering": {"levels": 4, "norm": 1.0, "bucket_size": 64},
        "qsgd": {"levels": 4, "bucket_size": 64, "norm": 2.0},
        "terngrad": {"clip": 2.5},
        "sparse-dithering": {"nu": 0.5, "unbiased": False},
        "scaled-sign": {},
        "one-bit": {},
        "drive": {"unbiased": False},
        "eden": {"bits": 1.5},
        "power-sgd": {"rank": 2, "iterations": 2, "layer_shapes": [[2, 3], [4]], "seed": 3},
        "induced": {"contractive": TOP_K, "correction": RAND_K},
        "lazy": {"compressor": RAND_K, "p": 0.5},
        "per-layer": {"compressor": TOP_K, "layer_sizes": [3, 4]},
        "per-bucket": {"compressor": TOP_K, "bucket_size": 64},
        "mlmc": {
            "ladder": {"kind": "s-top-k", "segment_size": 5, "contiguous": False},
            "law": {"kind": "given", "values": [0.25, 0.75]},
            "base": TOP_K,
            "draws": 2,
            "inclusion": False,
            "expected_levels": 1.0,
        },
        "random-truncation": {"ladder": {"kind": "top-k"}, "law": {"kind": "cost-aware"}},
    },
    Ladder: {
        "top-k": {},
        "s-top-k": {"segment_size": 4, "contiguous": True},
        "geometric": {"first": 0.25, "tail_segment": 8},
        "fixed-point": {},
        "floating-point": {},
        "rtn": {"bits": 4, "construction": "nested"},
        "ecuq": {"budgets": [1, 3], "construction": "unbiased"},
        "rank": {"rows": 2},
        "refinement": {"compressor": TOP_K, "steps": 3, "top": RAND_K},
    },
    LevelLaw: {
        "own": {},
        "adaptive": {},
        "cost-aware": {},
        "given": {"values": [0.5, 0.25, 0.25]},
    },
    Optimizer: {
        "sgd": {"step_size": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        "adam": {"step_size": 0.5, "betas": [0.5, 0.75], "eps": 1e-6, "weight_decay": 0.01},
        "adamw": {"step_size": 0.5, "betas": [0.5, 0.75], "eps": 1e-6, "weight_decay": 0.02},
    },
}
"""One full description of every kind; ``test_examples_are_complete`` keeps it so."""

ALL_KINDS = [(shape, kind) for shape, kinds in EXAMPLES.items() for kind in kinds]


def built(shape: Any, value: Any) -> Any:
    """Build the field of a shape, as it stands at ``x`` in a configuration."""
    holder = dataclasses.make_dataclass("Holder", [("x", shape)], frozen=True)
    return build(holder, {"x": value}, "").x


def test_examples_are_complete() -> None:
    assert {shape: set(kinds) for shape, kinds in KINDS.items()} == {
        shape: set(kinds) for shape, kinds in EXAMPLES.items()
    }
    for shape, kind in ALL_KINDS:
        fields = {field.name for field in dataclasses.fields(KINDS[shape][kind])}
        assert set(EXAMPLES[shape][kind]) == fields


@pytest.mark.parametrize(("shape", "kind"), ALL_KINDS)
def test_a_description_builds_its_class_and_is_given_back(shape: Any, kind: str) -> None:
    description = {"kind": kind, **EXAMPLES[shape][kind]}
    value = built(shape, description)
    assert type(value) is KINDS[shape][kind]
    assert describe(value) == description
    assert built(shape, yaml.safe_load(yaml.safe_dump(describe(value)))) == value


@pytest.mark.parametrize(("shape", "kind"), ALL_KINDS)
def test_every_kind_names_its_unknown_keys(shape: Any, kind: str) -> None:
    known = sorted(EXAMPLES[shape][kind])
    with pytest.raises(ConfigError) as caught:
        built(shape, {"kind": kind, **EXAMPLES[shape][kind], "kk": 1})
    assert str(caught.value).startswith("x: unknown keys ['kk']")
    assert str(caught.value).endswith(f"known are {known}")


@pytest.mark.parametrize("shape", KINDS)
@pytest.mark.parametrize("kind", ["nonsense", "", "SGD"])
def test_every_shape_names_its_unknown_kinds(shape: Any, kind: str) -> None:
    for value in (kind, {"kind": kind}):
        with pytest.raises(ConfigError) as caught:
            built(shape, value)
        assert str(caught.value).startswith(f"x.kind: unknown {kind!r}")
        assert f"known are {sorted(KINDS[shape])}, or give the dotted" in str(caught.value)


@pytest.mark.parametrize("shape", KINDS)
@pytest.mark.parametrize("value", [None, 3, ["sgd"], {}, {"kind": None}, {"kind": 3}, {"k": 1}])
def test_every_shape_needs_a_kind(shape: Any, value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^x: expected a mapping with a key 'kind', got"
    ) as caught:
        built(shape, value)
    assert str(sorted(KINDS[shape])) in str(caught.value)


def test_the_nearest_kind_and_key_are_suggested() -> None:
    with pytest.raises(ConfigError, match=r"unknown 'topk' \(did you mean 'top-k'\?\)"):
        built(Compressor, "topk")
    with pytest.raises(ConfigError, match=r"unknown 'adm' \(did you mean 'adam'\?\)"):
        built(Optimizer, {"kind": "adm"})
    with pytest.raises(
        ConfigError, match=r"unknown keys \['stepsize'\] \(did you mean 'step_size'\?\)"
    ):
        built(Optimizer, {"kind": "sgd", "stepsize": 0.1})


def test_a_bare_word_is_short_for_a_kind() -> None:
    assert built(Ladder, "top-k") == TopKLadder()
    assert built(Compressor, {"kind": "mlmc", "ladder": "top-k", "law": "adaptive"}) == MLMC(
        ladder=TopKLadder(), law=AdaptiveLaw()
    )
    assert built(Method, {"kind": "compressed-sgd", "compressor": TOP_K}) == CompressedSGD(
        compressor=TopK(k=3)
    )


WRONG_VALUES: list[tuple[Any, Any, str]] = [
    (Compressor, {"kind": "top-k"}, r"x: missing keys \['k'\]"),
    (Compressor, "top-k", r"x: missing keys \['k'\]"),
    (Compressor, {"kind": "top-k", "k": 0}, "x: k is 0: give a whole number"),
    (Compressor, {"kind": "top-k", "k": 5.0}, r"x: k is 5\.0: give a whole number"),
    (Compressor, {"kind": "top-k", "k": "many"}, r"x\.k: got 'many': Input should be a valid"),
    (Compressor, {"kind": "top-k", "k": None}, r"x\.k: got None"),
    (Compressor, {"kind": "top-k", "k": [1]}, r"x\.k: got \[1\]"),
    (Compressor, {"kind": "top-k", "k": float("nan")}, "x: k is nan"),
    (Compressor, {"kind": "rand-k", "k": 2, "scaled": "maybe"}, r"x\.scaled: got 'maybe'"),
    (Compressor, {"kind": "fixed-point", "planes": 32}, "x: planes is 32: give 1 to 31"),
    (Compressor, {"kind": "fixed-point", "planes": 2.5}, r"x\.planes: got 2\.5"),
    (Compressor, {"kind": "mlmc", "ladder": "topk"}, r"x\.ladder\.kind: unknown 'topk'"),
    (Compressor, {"kind": "mlmc", "ladder": {"kind": "s-top-k"}}, r"x\.ladder: missing keys"),
    (Compressor, {"kind": "mlmc", "ladder": "top-k", "law": "best"}, r"x\.law\.kind: unknown"),
    (LevelLaw, {"kind": "given", "values": [0.5, 0.6]}, "x: values are .* sum to 1"),
    (LevelLaw, {"kind": "given", "values": []}, "x: values are"),
    (LevelLaw, {"kind": "given", "values": 0.5}, r"x\.values: got 0\.5"),
    (Method, {"kind": "ef21-sgdm", "compressor": TOP_K, "momentum": 0}, "x: momentum is 0.0"),
    (Method, {"kind": "ef21-sgdm", "compressor": "identity", "momentum": "a"}, r"x\.momentum: got"),
    (Method, {"kind": "ef21-sgdm", "compressor": {"kind": "rand-k", "k": 2}}, "x: compressor is"),
    (Method, {"kind": "compressed-sgd", "compressor": 3}, r"x\.compressor: expected a mapping"),
    (Optimizer, {"kind": "sgd", "step_size": -1}, "x: step_size is -1.0: give a positive float32"),
    (Optimizer, {"kind": "sgd", "step_size": float("nan")}, "x: step_size is nan"),
    (Optimizer, {"kind": "adam", "betas": [0.5]}, r"x\.betas: got \[0\.5\]"),
]


@pytest.mark.parametrize(("shape", "value", "text"), WRONG_VALUES)
def test_wrong_values_are_quoted_with_their_place(shape: Any, value: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}"):
        built(shape, value)


# Problems.


NEEDS_DATA = {"fashion-mnist": {}, "cifar-10": {"data_dir": "data"}}
"""Problems whose data need not be here, with the keys that they need."""


def test_every_problem_of_the_catalogue_can_be_described() -> None:
    for name, path in PROBLEMS.items():
        description = {"kind": name, **NEEDS_DATA.get(name, {})}
        source = built(ProblemSource, description)
        assert source.path == path
        assert describe(source) == description
        if name not in NEEDS_DATA:
            assert source.load() is not None


def test_options_of_a_problem_are_checked_and_given_back() -> None:
    source = built(ProblemSource, {"kind": "quadratic", "dim": 8, "noise": 0.1})
    assert source.load() == Quadratic(dim=8, noise=0.1)
    assert describe(source) == {"kind": "quadratic", "dim": 8, "noise": 0.1}
    dotted = built(ProblemSource, {"kind": "mlmc_ray.problems.Digits", "batch_norm": True})
    assert dotted.load() == Digits(batch_norm=True)
    assert describe(dotted) == {"kind": "mlmc_ray.problems.Digits", "batch_norm": True}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("digit", ConfigError, r"x\.kind: unknown 'digit' \(did you mean 'digits'\?\); known"),
        ({"kind": "digits", "size": 3}, ConfigError, r"x: unknown keys \['size'\]; known are"),
        ({"kind": "quadratic", "dim": "x"}, ConfigError, r"x\.dim: got 'x'"),
        ({"dim": 3}, ConfigError, "x: expected a mapping with a key 'kind'"),
        ("no_such_module.Task", ProblemError, "problem: cannot import 'no_such_module'"),
        ("mlmc_ray.problems.Missing", ProblemError, "problem: module 'mlmc_ray.problems' has no"),
        (".Task", ProblemError, r"problem: '\.Task' is not a dotted path"),
        ("mlmc_ray..Task", ProblemError, "problem: cannot import 'mlmc_ray.'"),
    ],
)
def test_a_problem_that_cannot_be_used_is_named(
    value: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{text}"):
        built(ProblemSource, value)
