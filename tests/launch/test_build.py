"""From mappings to dataclasses and back, for every kind of every shape."""

import dataclasses
from typing import Any

import pytest
import yaml

from launch.callbacks import Callback
from launch.configuration.build import build, describe, nearest
from launch.configuration.catalogue import KINDS, PROBLEMS
from launch.configuration.fields import name_of, settings, settings_of
from launch.pages.docstrings import meaning_of
from mlmc_ray.compressors import Compressor, PowerSGD, TopK
from mlmc_ray.downlinks import Downlink
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.estimator import MLMC, AdaptiveLaw, LevelLaw
from mlmc_ray.ladders import Ladder, TopKLadder
from mlmc_ray.methods import CompressedSGD, LearnedCompression, Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.problems import Digits, ProblemSource, Quadratic
from mlmc_ray.schedules import Schedule

TOP_K = {"kind": "top-k", "k": 3}
RAND_K = {"kind": "rand-k", "k": 3, "scaled": True}

EXAMPLES: dict[Any, dict[str, dict[str, Any]]] = {
    Method: {
        "sgd": {},
        "compressed-sgd": {"compressor": {"kind": "rand-k", "k": 0.25, "scaled": False}},
        "ef21-sgdm": {"compressor": TOP_K, "momentum": 0.25},
        "ef": {"compressor": TOP_K},
        "ef-bv": {"compressor": TOP_K, "shift_step": 0.5, "estimate_weight": 0.25},
        "diana": {"compressor": RAND_K, "shift_step": 0.25, "refresh": 0.25},
        "rand-diana": {"compressor": RAND_K, "p": 0.25},
        "adiana": {
            "compressor": RAND_K,
            "smoothness": 4.0,
            "strong_convexity": 0.5,
            "numbers": "refined",
        },
        "svrg": {"compressor": RAND_K, "refresh": 5},
        "marina": {"compressor": RAND_K, "p": 0.25},
        "vr-marina": {"compressor": RAND_K, "p": 0.25, "mega_batch": 64},
        "pp-marina": {"compressor": RAND_K, "participants": 2, "p": 0.25},
        "dasha": {"compressor": RAND_K, "momentum": 0.25},
        "dasha-page": {"compressor": RAND_K, "p_page": 0.25, "momentum": 0.25},
        "dasha-mvr": {
            "compressor": RAND_K,
            "noise_momentum": 0.25,
            "momentum": 0.25,
            "mega_batch": 64,
        },
        "dasha-sync-mvr": {"compressor": RAND_K, "p": 0.25, "momentum": 0.25, "mega_batch": 64},
        "dasha-pp": {"compressor": RAND_K, "participants": 2, "momentum": 0.25},
        "local-sgd": {
            "local_step_size": 0.25,
            "local_steps": 3,
            "compressor": TOP_K,
            "error_feedback": True,
        },
        "scaffnew": {"step_size": 0.25, "probability": 0.5, "l1": 0.01},
        "compressed-scaffnew": {
            "step_size": 0.25,
            "probability": "theory",
            "senders": 3,
            "damping": 0.5,
        },
        "tamuna": {
            "step_size": "theory",
            "probability": 0.5,
            "senders": 3,
            "damping": None,
            "participants": 4,
        },
        "coco-ef": {
            "compressor": TOP_K,
            "straggling": 0.25,
            "accumulate": False,
            "newest_weight": 0.1,
        },
        "async-sgd": {
            "compressor": TOP_K,
            "policy": "drop",
            "max_staleness": 3,
            "slack": None,
            "blocks": 2,
        },
        "rennala": {"batch": 3, "compressor": RAND_K},
        "shadowheart": {
            "compressor": RAND_K,
            "compute_s": [1.0, 2.0],
            "message_s": 0.5,
            "noise": 4.0,
            "omega": 3.0,
            "max_messages": 8,
        },
        "adaptive-shadowheart": {
            "compressor": RAND_K,
            "noise": 4.0,
            "omega": 3.0,
            "max_messages": 8,
            "pull": 0.5,
        },
        "partial-participation": {"method": {"kind": "sgd"}, "participants": 2},
        "ef21-p": {"downlink": TOP_K},
        "ef21-p-diana": {"compressor": RAND_K, "downlink": TOP_K, "shift_step": 0.25},
        "ef21-bc": {"compressor": TOP_K, "downlink": TOP_K, "step_size": 0.25},
        "marina-p": {"downlink": RAND_K, "p": 0.25},
        "m3": {
            "compressor": RAND_K,
            "downlink": RAND_K,
            "p": 0.25,
            "downlink_p": 0.5,
            "mixing": 0.75,
        },
        "docofl": {
            "compressor": RAND_K,
            "anchor": {"kind": "ecuq", "bits": 3, "tolerance": 0.25},
            "correction": {"kind": "eden", "bits": 1.5},
            "anchor_rounds": 5,
            "anchors_alive": 2,
        },
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
        "perm-k": {},
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
        "shared-thresholds": {
            "step": None,
            "rms": None,
            "peak": None,
            "bits_per_value": 0.25,
            "message_bytes": None,
            "target_omega": None,
            "layout": "contiguous",
            "coordinated": True,
            "block": 64,
        },
        "shared-directions": {
            "step": None,
            "rms": 30.0,
            "peak": None,
            "bits_per_value": None,
            "message_bytes": None,
            "target_omega": None,
            "layout": "interleaved",
            "coordinated": False,
            "group_size": 32,
            "bits": 9,
        },
        "power-sgd": {"rank": 2, "iterations": 2},
        "induced": {"contractive": TOP_K, "correction": RAND_K},
        "lazy": {"compressor": RAND_K, "p": 0.5},
        "per-layer": {"compressor": TOP_K},
        "per-bucket": {"compressor": TOP_K, "bucket_size": 64},
        "mlmc": {
            "ladder": {"kind": "s-top-k", "segment_size": 5, "contiguous": False},
            "law": {"kind": "given", "values": [0.25, 0.75]},
            "base": TOP_K,
            "draws": 2,
            "inclusion": False,
            "expected_levels": 1.0,
            "coordinated": True,
        },
        "random-truncation": {
            "ladder": {"kind": "top-k"},
            "law": {"kind": "cost-aware"},
            "coordinated": True,
        },
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
        "thresholds": {"steps": 32, "rms": 10.0},
    },
    LevelLaw: {
        "own": {},
        "adaptive": {},
        "cost-aware": {},
        "given": {"values": [0.5, 0.25, 0.25]},
    },
    Downlink: {
        "full": {},
        "half": {"format": "float16"},
        "delta": {},
        "relay": {"digest_every": 7},
        "compressed": {"compressor": TOP_K},
    },
    Optimizer: {
        "sgd": {"step_size": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        "proximal-sgd": {"step_size": 0.5, "l1": 0.01, "l2": 0.02},
        "adam": {"step_size": 0.5, "betas": [0.5, 0.75], "eps": 1e-6, "weight_decay": 0.01},
        "adamw": {"step_size": 0.5, "betas": [0.5, 0.75], "eps": 1e-6, "weight_decay": 0.02},
    },
    Schedule: {
        "cosine": {"warm_up": 0.1, "final": 0.25},
        "linear": {"warm_up": 0.1, "final": 0.25},
        "drops": {"at": [0.5, 0.75], "factor": 0.2, "warm_up": 0.1},
    },
    Callback: {
        "tensorboard": {"directory": "x"},
        "mlflow": {"experiment": "x", "tracking_uri": "sqlite:///x.db", "artifacts": True},
        "wandb": {
            "project": "x",
            "entity": "y",
            "mode": "offline",
            "directory": "z",
            "artifacts": True,
        },
        "ray-metrics": {},
        "log": {"path": "x"},
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
        fields = {field.name for field in settings(KINDS[shape][kind])}
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


@pytest.mark.parametrize(
    ("key", "known"),
    [("lr", "step_size"), ("num_workers", "workers"), ("epochs", "rounds")],
)
def test_what_others_call_a_key_is_understood(key: str, known: str) -> None:
    assert nearest(key, ["momentum", known]) == f" (did you mean '{known}'?)"
    assert nearest(key, ["xyz"]) == ""


def test_a_ladder_is_no_compressor_and_the_other_way_round() -> None:
    with pytest.raises(ConfigError) as caught:
        built(Compressor, {"kind": "geometric", "first": 3})
    assert str(caught.value) == (
        "x.kind: geometric is a ladder: kind: mlmc, ladder: {kind: geometric, ...}"
    )
    with pytest.raises(ConfigError) as caught:
        built(Ladder, {"kind": "rand-k", "k": 3})
    assert str(caught.value) == (
        "x.kind: rand-k is a compressor: kind: refinement, compressor: {kind: rand-k, ...}"
    )


def test_a_missing_key_is_explained_by_the_docstring() -> None:
    with pytest.raises(ConfigError) as caught:
        built(Method, {"kind": "partial-participation", "method": "sgd"})
    assert str(caught.value) == (
        "x: missing keys ['participants'] (participants: how many are asked, at least 1)"
    )


def test_a_docstring_that_says_nothing_of_a_field_adds_nothing() -> None:
    assert meaning_of(TopK, "nothing") == ""
    two_lines = "how long gradients are sent as they are"
    assert meaning_of(LearnedCompression, "dense_rounds") == two_lines
    assert meaning_of(LearnedCompression, "fall_back").startswith("train again for")
    assert meaning_of(LearnedCompression, "fall_back").endswith("in as many bits would have")


def test_a_bare_word_is_short_for_a_kind() -> None:
    assert built(Ladder, "top-k") == TopKLadder()
    assert built(Compressor, {"kind": "mlmc", "ladder": "top-k", "law": "adaptive"}) == MLMC(
        ladder=TopKLadder(), law=AdaptiveLaw()
    )
    assert built(Method, {"kind": "compressed-sgd", "compressor": TOP_K}) == CompressedSGD(
        compressor=TopK(k=3)
    )


MLMC_KEYS = {"kind": "mlmc", "ladder": "top-k"}
WRONG_VALUES: list[tuple[Any, Any, str]] = [
    (Compressor, {"kind": "top-k"}, r"x: missing keys \['k'\]"),
    (Compressor, "top-k", r"x: missing keys \['k'\]"),
    (Compressor, {"kind": "top-k", "k": 0}, "x: k is 0: give a whole number"),
    (Compressor, {"kind": "top-k", "k": 5.0}, r"x: k is 5\.0: give a whole number"),
    (Compressor, {"kind": "top-k", "k": "many"}, r"x\.k: got 'many': .* be a valid number$"),
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
    (Ladder, {"kind": "ecuq", "budgets": 3}, r"x\.budgets: got 3: Input should be a valid list"),
    (Ladder, {"kind": "ecuq", "budgets": [True]}, r"x\.budgets: got \[True\]: a number is exp"),
    (Ladder, {"kind": "ecuq", "budgets": ["1"]}, r"x\.budgets: got \['1'\]: a number is exp"),
    (
        Compressor,
        MLMC_KEYS | {"inclusion": "yes"},
        r"x\.inclusion: got 'yes': true or false is expected",
    ),
    (Compressor, MLMC_KEYS | {"inclusion": 1}, r"x\.inclusion: got 1: true or false is expected"),
    (Compressor, MLMC_KEYS | {"draws": 10**30}, "x: draws is 10+: draw at least 1 level, at most"),
]


@pytest.mark.parametrize(("shape", "value", "text"), WRONG_VALUES)
def test_wrong_values_are_quoted_with_their_place(shape: Any, value: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}"):
        built(shape, value)


LEARNED = {"kind": "learned", "k": 0.1}
WRONG_NUMBERS_OF_THE_LEARNED: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": float("nan")}, "learning_rate is nan: give a positive number"),
    ({"learning_rate": float("inf")}, "learning_rate is inf: give a positive number"),
    ({"learning_rate": 0}, r"learning_rate is 0\.0: give a positive number"),
    ({"similarity": float("nan")}, "similarity is nan: give a positive number, or 0"),
    ({"similarity": -1}, r"similarity is -1\.0: give a positive number, or 0"),
    ({"dense_rounds": -1}, "dense_rounds is -1: give at least 0"),
    ({"edge_layers": -1}, "edge_layers is -1: give at least 0"),
    ({"innovation": float("nan")}, "innovation is nan: it is a share"),
]


@pytest.mark.parametrize(("keys", "text"), WRONG_NUMBERS_OF_THE_LEARNED)
def test_wrong_numbers_of_the_learned_method_are_named_one_by_one(
    keys: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=f"^x: {text}"):
        built(Method, LEARNED | keys)
    assert built(Method, LEARNED | {"similarity": 0}).similarity == 0


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"kind": "per-layer", "compressor": "natural", "layer_sizes": [3]}, "layer_sizes"),
        ({"kind": "power-sgd", "rank": 2, "layer_shapes": [[2, 3]]}, "layer_shapes"),
        ({"kind": "power-sgd", "rank": 2, "layer_shapes": [[-24]]}, "layer_shapes"),
        ({"kind": "power-sgd", "rank": 2, "seed": 1}, "seed"),
        ({"kind": "perm-k", "seed": -1}, "seed"),
        ({"kind": "perm-k", "worker_id": 0}, "worker_id"),
        ({"kind": "perm-k", "num_workers": 1}, "num_workers"),
    ],
)
def test_what_is_filled_in_at_run_time_cannot_be_given(value: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^x: {key} is filled in at run time: leave it out$"):
        built(Compressor, value)


def test_what_is_filled_in_at_run_time_is_not_described() -> None:
    bound = PowerSGD(rank=2, layer_shapes=((2, 3),), seed=4)
    assert describe(bound) == {"kind": "power-sgd", "rank": 2, "iterations": 1}
    assert name_of(bound) == "power-sgd(rank=2)"
    assert settings_of(PowerSGD) == "rank, iterations=1"


def test_settings_are_shown_with_the_defaults_that_are_made() -> None:
    assert settings_of(MLMC).startswith("ladder, law=adaptive, base=None, draws=1, inclusion=False")


# Problems.


NEEDS_DATA = {"fashion-mnist", "cifar-10", "cifar-100"}
"""Problems whose data need not be here."""

NEEDED: dict[str, dict[str, Any]] = {
    "cifar-10": {"data_dir": "data"},
    "cifar-100": {"data_dir": "data"},
    "replicated": {"problem": {"kind": "digits"}},
}
"""Keys that a problem needs."""


def test_every_problem_of_the_catalogue_can_be_described() -> None:
    for name, path in PROBLEMS.items():
        description = {"kind": name, **NEEDED.get(name, {})}
        source = built(ProblemSource, description)
        assert source.path == path
        assert describe(source) == description
        if name not in NEEDS_DATA:
            assert source.load() is not None


def test_a_problem_within_a_problem_may_be_a_source_and_is_described() -> None:
    inner = ProblemSource("mlmc_ray.problems.digits.Digits", {"batch_norm": True})
    source = built(ProblemSource, {"kind": "replicated", "problem": inner, "copies": 3})
    described = describe(source)
    assert described["problem"] == {"kind": "digits", "batch_norm": True}
    assert built(ProblemSource, described) == source


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
        (
            "mlmc_ray.problems.quadratic.Quadratik",
            ProblemError,
            r"problem: module 'mlmc_ray\.problems\.quadratic' has no 'Quadratik' \(did you mean "
            r"'Quadratic'\?\), which is .*/mlmc_ray/problems/quadratic\.py$",
        ),
        (".Task", ProblemError, r"problem: '\.Task' is not a dotted path"),
        ("mlmc_ray..Task", ProblemError, "problem: cannot import 'mlmc_ray.'"),
    ],
)
def test_a_problem_that_cannot_be_used_is_named(
    value: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{text}"):
        built(ProblemSource, value)
