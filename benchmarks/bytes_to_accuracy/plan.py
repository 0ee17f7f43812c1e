"""The experiment: which methods are trained on what, how long, and with which step sizes.

Every method is trained with every step size of the setting's grid and the first seed. The step with
the best final accuracy is its own, and is trained with the other seeds too. Workers draw shards and
batches by the seed, so all methods see the same ones. Minibatch SGD averages the workers' messages
with a constant step size; ef21-sgdm has its memories besides.

Targets are what uncompressed SGD ends with, less one to two points.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.run_directory import slug

SEEDS = (0, 1, 2)
"""The first chooses the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A method that is compared.

    Args:
        name: in tables and figures.
        method: as in a configuration.
        version: of its code: raised where that has changed what it sends, so that it runs anew.

    Raises:
        ValueError: the version is not positive.
    """

    name: str
    method: Any
    version: int = 1

    def __post_init__(self) -> None:
        if self.version < 1:
            raise ValueError(f"version of {self.name!r} is {self.version}: give 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What all methods are trained on.

    Args:
        name: of the problem.
        problem: as in a configuration.
        workers: how many.
        rounds: how many.
        batch_size: examples a gradient on every worker.
        evaluate_every: rounds between evaluations.
        steps: the grid of step sizes, in increasing order.
        target: a test accuracy.

    Raises:
        ValueError: the target is no fraction, the steps do not increase, or the last round has no
            evaluation.
    """

    name: str
    problem: Any
    workers: int
    rounds: int
    batch_size: int
    evaluate_every: int
    steps: tuple[float, ...]
    target: float

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"target is {self.target}: give a fraction, such as 0.8")
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps is {self.steps}: give increasing step sizes")
        if self.evaluate_every < 1 or self.rounds % self.evaluate_every:
            raise ValueError(
                f"evaluate_every is {self.evaluate_every}: give a divisor of {self.rounds} rounds"
            )

    @property
    def title(self) -> str:
        """Problem and workers in words."""
        return f"{self.name}, {self.workers} workers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One run of the experiment, which has a file of its own."""

    setting: Setting
    contender: Contender
    step_size: float
    seed: int

    @property
    def label(self) -> str:
        """The cell in a line."""
        tuned = f"step {self.step_size:g}, seed {self.seed}"
        return f"{self.setting.title}: {self.contender.name}, {tuned}"

    def config(self) -> dict[str, Any]:
        """Return the configuration of the run."""
        return {
            "name": self.contender.name,
            "problem": self.setting.problem,
            "method": self.contender.method,
            "optimizer": {"kind": "sgd", "step_size": self.step_size},
            "seed": self.seed,
            "rounds": self.setting.rounds,
            "workers": self.setting.workers,
            "batch_size": self.setting.batch_size,
            "evaluate_every": self.setting.evaluate_every,
            "observe_every": None,
            "engine": "inline",
            "threads": 1,
        }

    def path(self, out: Path) -> Path:
        """Return its file below a directory: another one where plan or version have changed."""
        text = json.dumps(self.config(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        tuned = f"step-{self.step_size:g}-seed-{self.seed}-v{self.contender.version}"
        place = out / slug(self.setting.title) / slug(self.contender.name)
        return place / f"{tuned}-{digest}.json"


def _compressed(compressor: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "compressed-sgd", "compressor": compressor}


def _mlmc(law: str, ladder: str | Mapping[str, Any]) -> dict[str, Any]:
    return _compressed({"kind": "mlmc", "law": law, "ladder": ladder})


_SHARED: dict[str, tuple[float, ...]] = {
    "shared-thresholds": (100.0, 30.0, 10.0),
    "shared-directions": (240.0, 80.0, 30.0),
}
"""Steps over the root mean square of the entries: about 0.01 to 0.15 bits an entry."""
_SHARED_VERSION = 1

CONTENDERS = (
    Contender(name="SGD", method="sgd"),
    Contender(name="Rand-k 1%", method=_compressed({"kind": "rand-k", "k": 0.01})),
    Contender(
        name="EF21-SGDM Top-k 1%",
        method={
            "kind": "ef21-sgdm",
            "compressor": {"kind": "top-k", "k": 0.01},
            "momentum": 0.1,
        },
    ),
    Contender(
        name="MLMC s-Top-k 1%", method=_mlmc("adaptive", {"kind": "s-top-k", "segment_size": 0.01})
    ),
    Contender(name="MLMC fixed point", method=_mlmc("own", "fixed-point")),
    Contender(name="QSGD 1 level", method=_compressed({"kind": "qsgd", "levels": 1})),
    Contender(name="TernGrad", method=_compressed("terngrad")),
    Contender(name="optimal-sparse 1%", method=_compressed({"kind": "optimal-sparse", "k": 0.01})),
    Contender(name="EDEN 0.1 bits", method=_compressed({"kind": "eden", "bits": 0.1})),
    *(
        Contender(
            name=f"{kind} {rms:g} rms",
            method=_compressed({"kind": kind, "rms": rms}),
            version=_SHARED_VERSION,
        )
        for kind, steps in _SHARED.items()
        for rms in steps
    ),
)

_PERCEPTRON = {"kind": "fashion-mnist", "network": "perceptron", "test_examples": 2000}
_CNN = {"kind": "fashion-mnist", "network": "cnn", "test_examples": 500}
_PERCEPTRON_STEPS = (0.005, 0.0125, 0.03, 0.08, 0.2, 0.5, 1.25)
_DIGITS_STEPS = (0.0125, 0.03, 0.08, 0.2, 0.5, 1.25, 3.0)
_CNN_STEPS = (0.0125, 0.03, 0.08, 0.2, 0.5, 1.25)

SETTINGS = (
    Setting(
        name="perceptron",
        problem=_PERCEPTRON,
        workers=8,
        rounds=400,
        batch_size=32,
        evaluate_every=5,
        steps=_PERCEPTRON_STEPS,
        target=0.81,
    ),
    Setting(
        name="digits",
        problem="digits",
        workers=8,
        rounds=300,
        batch_size=32,
        evaluate_every=5,
        steps=_DIGITS_STEPS,
        target=0.935,
    ),
    Setting(
        name="digits",
        problem="digits",
        workers=32,
        rounds=120,
        batch_size=8,
        evaluate_every=5,
        steps=_DIGITS_STEPS,
        target=0.885,
    ),
    Setting(
        name="perceptron",
        problem=_PERCEPTRON,
        workers=32,
        rounds=100,
        batch_size=16,
        evaluate_every=5,
        steps=_PERCEPTRON_STEPS,
        target=0.8,
    ),
    Setting(
        name="cnn",
        problem=_CNN,
        workers=8,
        rounds=100,
        batch_size=16,
        evaluate_every=5,
        steps=_CNN_STEPS,
        target=0.75,
    ),
    Setting(
        name="cnn",
        problem=_CNN,
        workers=32,
        rounds=50,
        batch_size=4,
        evaluate_every=5,
        steps=_CNN_STEPS,
        target=0.64,
    ),
)
