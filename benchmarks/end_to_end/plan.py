"""The experiment: who trains what, over which links, for how long, with which step sizes.

Step sizes are chosen by ``tune``: every contender trains the same number of rounds with every step
of the model's grid, on links without a limit, and keeps the one with the best accuracy. Contenders
that compute the same numbers share a step: see ``tuned_as``.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from launch.configuration.run_config import RunConfig, load_config
from launch.run_directory import slug

WORKERS = 4
SEED = 1
WARM_UP = 2
"""Rounds that connect, allocate and compile; PowerSGD sends the whole gradient in them."""

Rate = Literal["10mbit", "100mbit", "1gbit", "unshaped"]
RATES: dict[Rate, float | None] = {
    "10mbit": 1.25e6,
    "100mbit": 12.5e6,
    "1gbit": 125e6,
    "unshaped": None,
}
"""In bytes a second, of every link, each way.

10 Gbit/s is not among them: with segmentation offload off, so that the counters are those of a
wire, the nodes' processors stop below 4 Gbit/s.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours:
    """This project.

    Args:
        name: in tables and figures.
        tuned_as: name of the contender whose step size it has.
        method: as in a configuration.
        downlink: as in a configuration; it does not change what is computed.
    """

    name: str
    tuned_as: str
    method: Any
    downlink: str = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Documented:
    """The parameter server of Ray's documentation.

    Args:
        name: in tables and figures.
        tuned_as: name of the contender whose step size it has.
        pipelined: whether rounds are submitted without waiting for the one before.
    """

    name: str
    tuned_as: str
    pipelined: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Distributed:
    """torch's DistributedDataParallel over gloo, all gradients in one bucket.

    Args:
        name: in tables and figures.
        tuned_as: name of the contender whose step size it has.
        hook: how gradients are compressed: not at all, to 16 bits, or as matrices of low rank, one
            by one, or those of the same shape together.
        rank: of the matrices.

    Raises:
        ValueError: a rank is given without such matrices, or lacks.
    """

    name: str
    tuned_as: str
    hook: Literal["none", "fp16", "powersgd", "batched-powersgd"] = "none"
    rank: int | None = None

    def __post_init__(self) -> None:
        if (self.rank is None) == self.hook.endswith("powersgd"):
            raise ValueError(
                f"hook is {self.hook!r} and rank is {self.rank}: give a rank with powersgd and "
                "batched-powersgd, and none with the others"
            )


Contender = Ours | Documented | Distributed


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What is trained.

    Args:
        name: in tables and figures.
        problem: as in a configuration.
        parameters: how many.
        batch_size: examples a gradient on every node.
        steps: the grid of step sizes, in increasing order.
        tuning_rounds: that every one of them is tried for.
        target: a test accuracy.
        growth: rounds at an evaluation over those at the one before, if they are many.
        same_shapes: whether matrices of its gradient have the same shape.

    Raises:
        ValueError: the target is no fraction, the steps do not increase, or growth is not above 1.
    """

    name: str
    problem: Any
    parameters: int
    batch_size: int
    steps: tuple[float, ...]
    tuning_rounds: int
    target: float
    growth: float = 1.2
    same_shapes: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"target is {self.target}: give a fraction, such as 0.8")
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps is {self.steps}: give increasing step sizes")
        if not self.growth > 1:
            raise ValueError(f"growth is {self.growth}: give a factor above 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """When a run ends: at the first of these.

    Args:
        seconds: of rounds; evaluations and warm-up are not counted.
        rounds: how many.
        target: an accuracy; a run goes on for as long again as it took to have it at two
            evaluations in a row. None for no such end.

    Raises:
        ValueError: seconds or rounds are not positive, or the target is no fraction.
    """

    seconds: float
    rounds: int
    target: float | None = None

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.rounds > 0):
            raise ValueError(f"{self}: give seconds and rounds above 0")
        if self.target is not None and not 0 < self.target < 1:
            raise ValueError(f"target is {self.target}: give a fraction, such as 0.8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One run of the experiment, which has a file of its own.

    Args:
        contender: who trains.
        model: what.
        rate: of the links while it trains.
        step_size: of plain SGD.
        budget: when the training ends.
        timed: rates at which some more rounds are timed after it.
    """

    contender: Contender
    model: Model
    rate: Rate
    step_size: float
    budget: Budget
    timed: tuple[Rate, ...] = ()

    @property
    def label(self) -> str:
        """The cell in a line."""
        return f"{self.model.name}, {self.rate}: {self.contender.name}, step {self.step_size:g}"

    def config(self) -> RunConfig:
        """Return the configuration of the run; of others than ours, what they share with it."""
        ours = self.contender if isinstance(self.contender, Ours) else named(CONTENDERS, "SGD")
        return load_config(
            {
                "problem": self.model.problem,
                "method": ours.method,
                "downlink": ours.downlink,
                "optimizer": {"kind": "sgd", "step_size": self.step_size},
                "seed": SEED,
                "workers": WORKERS,
                "batch_size": self.model.batch_size,
                "evaluate_every": 10**9,
                "observe_every": None,
                "actors": WORKERS,
                "placement": "spread",
            }
        )

    def described(self) -> dict[str, Any]:
        """Return all of it in plain values."""
        return asdict(self)

    def path(self, out: Path) -> Path:
        """Return its file below a directory: another one where the plan has changed."""
        text = json.dumps(self.described(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        place = out / slug(self.model.name) / self.rate
        return place / f"{slug(self.contender.name)}-step-{self.step_size:g}-{digest}.json"


def cell_named(names: Mapping[str, Any]) -> Cell:
    """Return the cell of the plan with these names; the reverse of ``names_of``.

    Raises:
        ValueError: there is none of a name.
    """
    return Cell(
        contender=named(CONTENDERS, names["contender"]),
        model=named(MODELS, names["model"]),
        rate=names["rate"],
        step_size=names["step_size"],
        budget=Budget(**names["budget"]),
        timed=tuple(names["timed"]),
    )


def names_of(cell: Cell) -> dict[str, Any]:
    """Return what a process of its own finds the cell by."""
    names = {"contender": cell.contender.name, "model": cell.model.name, "rate": cell.rate}
    numbers = {"step_size": cell.step_size, "budget": asdict(cell.budget)}
    return {**names, **numbers, "timed": cell.timed}


def named(things: Any, name: str) -> Any:
    """Return the one with a name.

    Raises:
        ValueError: there is none; lists those that are known.
    """
    known = {thing.name: thing for thing in things}
    if name not in known:
        raise ValueError(f"{name!r} is not in the plan: give one of {list(known)}")
    return known[name]


def pairs(
    contenders: Iterable[Contender], models: Iterable[Model]
) -> list[tuple[Contender, Model]]:
    """Return who trains what: all do all, but for batching where there is nothing to batch."""
    return [
        (contender, model)
        for model in models
        for contender in contenders
        if model.same_shapes or getattr(contender, "hook", None) != "batched-powersgd"
    ]


def _both_downlinks(name: str, method: Any) -> tuple[Ours, Ours]:
    """Return a method with all parameters sent down, and with the workers' messages relayed."""
    return (
        Ours(name=name, tuned_as=name, method=method),
        Ours(name=f"{name}, relay", tuned_as=name, method=method, downlink="relay"),
    )


def _compressed(name: str, compressor: Any) -> tuple[Ours, Ours]:
    return _both_downlinks(name, {"kind": "compressed-sgd", "compressor": compressor})


def _power(rank: int, *, batched: bool = False) -> Distributed:
    name = f"DDP{' batched' if batched else ''} PowerSGD {rank}"
    hook: Literal["powersgd", "batched-powersgd"] = "batched-powersgd" if batched else "powersgd"
    return Distributed(name=name, tuned_as=name, hook=hook, rank=rank)


_PLAIN = "DDP"  # whose numbers all have that send whole gradients

CONTENDERS: tuple[Contender, ...] = (
    *_compressed("shared-directions 80 rms", {"kind": "shared-directions", "rms": 80.0}),
    *_compressed("shared-thresholds 100 rms", {"kind": "shared-thresholds", "rms": 100.0}),
    *_both_downlinks(
        "EF21-SGDM Top-k 1%",
        {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 0.01}, "momentum": 0.1},
    ),
    Ours(name="SGD", tuned_as=_PLAIN, method="sgd"),
    Documented(name="Ray's documentation", tuned_as=_PLAIN, pipelined=False),
    Documented(name="Ray's documentation, pipelined", tuned_as=_PLAIN, pipelined=True),
    Distributed(name=_PLAIN, tuned_as=_PLAIN),
    Distributed(name="DDP fp16", tuned_as=_PLAIN, hook="fp16"),
    _power(1),
    _power(4),
    _power(1, batched=True),
    _power(4, batched=True),
)

MODELS = (
    Model(
        name="digits",
        problem="digits",
        parameters=38_282,
        batch_size=32,
        steps=(0.03, 0.08, 0.2, 0.5),
        tuning_rounds=300,
        target=0.93,
    ),
    Model(
        name="wide digits",
        problem={"kind": "benchmarks.wide_digits.WideDigits", "width": 3280},
        parameters=11_007_690,
        batch_size=32,
        steps=(0.2, 0.5, 1.0, 2.0),
        tuning_rounds=30,
        target=0.85,
    ),
    Model(
        name="perceptron",
        problem={
            "kind": "benchmarks.end_to_end.models.WideFashion",
            "hidden": 1257,
            "test_examples": 2000,
        },
        parameters=999_325,
        batch_size=32,
        steps=(0.0125, 0.03, 0.08, 0.2),
        tuning_rounds=300,
        target=0.81,
    ),
    Model(
        name="ResNet-18",
        problem={"kind": "fashion-mnist", "network": "resnet18", "test_examples": 100},
        parameters=11_172_810,
        batch_size=8,
        steps=(0.01, 0.03, 0.1),
        tuning_rounds=24,
        target=0.6,
        growth=2.0,
        same_shapes=True,
    ),
)
