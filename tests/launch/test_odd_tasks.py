"""Tasks whose own code does what it should not: one clear error each, or the right result."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launch import Session
from mlmc_ray.errors import ConfigError, MlmcRayError, ProblemError
from tests.tasks import Regression


class Task(Regression):
    """A regression that a fault changes; the faults are below."""

    fault = ""

    def __init__(self, fault: str) -> None:
        super().__init__()
        object.__setattr__(self, "fault", fault)

    def model(self) -> nn.Module:
        model = super().model()
        if self.fault in BUFFERS:
            BUFFERS[self.fault](model)
        return model

    def shard(self, worker_id: int, num_workers: int, generator: torch.Generator) -> Any:
        return [1] if self.fault == "shard" else super().shard(worker_id, num_workers, generator)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Any:
        if self.fault == "replaces parameters":
            for parameter in model.parameters():
                parameter.data = parameter.data.clamp(-1, 1)
        if self.fault == "drops a buffer":
            model.mean = None  # type: ignore[assignment]
        if self.fault == "grows a buffer":
            model.mean = torch.zeros(9)
        if self.fault == "odd error":
            raise OddError
        loss = super().loss(model, batch)
        return {"vector": loss.repeat(3), "number": 1.5}.get(self.fault, loss)

    def evaluate(self, model: nn.Module) -> Any:
        if self.fault == "double":
            model.double()
            return {"loss": 1.0}
        return MEASURES.get(self.fault) or super().evaluate(model)


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def _sparse() -> Tensor:
    graph: Tensor = torch.eye(3).to_sparse()
    return graph


BUFFERS: dict[str, Callable[[nn.Module], None]] = {
    "mask": lambda m: m.register_buffer("mask", torch.tensor([0.0, -math.inf])),
    "expanded": lambda m: m.register_buffer("ones", torch.ones(1).expand(3)),
    "sparse": lambda m: m.register_buffer("graph", _sparse()),
    "bfloat16": lambda m: m.register_parameter(
        "frozen", nn.Parameter(torch.ones(2, dtype=torch.bfloat16), requires_grad=False)
    ),
    "drops a buffer": lambda m: m.register_buffer("mean", torch.zeros(2)),
    "grows a buffer": lambda m: m.register_buffer("mean", torch.zeros(2)),
}
MEASURES: dict[str, Any] = {
    "a float": 0.5,
    "a number as name": {1: 0.5},
    "an empty name": {"": 0.5},
    "nan": {"accuracy": math.nan, "loss": -math.inf},
    "huge": {"loss": -1e308},
    "markup": {"[/red]x": 1.0},
}
ERRORS = {
    "shard": r"making the shard of worker 0: shard returns an object with sample.*got list",
    "replaces parameters": r"memory of parameter 0\.weight has been replaced",
    "double": r"memory of parameter 0\.weight has been replaced",
    "drops a buffer": r"buffer mean of shape \(2,\) has become None",
    "grows a buffer": r"buffer mean of shape \(2,\) has become of shape \(9,\)",
    "vector": r"loss returns the mean over the batch, a scalar; got \(3,\)",
    "number": r"loss returns the mean over the batch, a scalar; got float",
    "odd error": r"OddError while computing the loss: OddError \(.*test_odd_tasks\.py",
    "a float": r"this one returned 0\.5",
    "a number as name": "1 is no name of a measure",
    "an empty name": "'' is no name of a measure",
}


def config_of(fault: str) -> dict[str, Any]:
    return {
        "problem": {"kind": "tests.launch.test_odd_tasks.Task", "fault": fault},
        "method": "sgd",
        "optimizer": {"kind": "sgd", "step_size": 0.01},
        "engine": "inline",
        "rounds": 2,
    }


@pytest.mark.parametrize("fault", ERRORS)
def test_a_fault_is_explained(fault: str) -> None:
    with pytest.raises(ProblemError, match=ERRORS[fault]), Session(config_of(fault)) as session:
        session.run()


@pytest.mark.parametrize("fault", ["mask", "expanded", "sparse", "bfloat16", *MEASURES])
def test_what_is_odd_and_right_goes_through(fault: str, tmp_path: Path) -> None:
    if fault in ERRORS:
        return
    with Session(config_of(fault), out=tmp_path / "run") as session:
        session.run()
        session.save()
        session.figure().savefig(tmp_path / "figure.png")
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_figure_before_the_first_round(tmp_path: Path) -> None:
    with Session(config_of("")) as session:
        session.figure().savefig(tmp_path / "figure.png")


@pytest.mark.parametrize(
    "source", [None, [1, 2], {"search_paths": ["\0"]}, {"optimizer": "\ud800"}, {"name": [[[3]]]}]
)
def test_odd_sources_are_refused(source: Any) -> None:
    given = {**config_of(""), **source} if isinstance(source, dict) else source
    with pytest.raises(ConfigError):
        Session(given)


@pytest.mark.parametrize("out", ["a\0b", "x" * 300])
def test_odd_directories_are_refused(out: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        Session(config_of(""), out=out)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"kind": "sgd", "step_size": 1e308},
        {"kind": "sgd", "step_size": 0.1, "weight_decay": 1e308},
        {"kind": "adam", "eps": 1e-320},
    ],
)
def test_numbers_beyond_float32_are_refused(optimizer: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"give .*float32"):
        Session({**config_of(""), "optimizer": optimizer})


def test_numbers_that_overflow_end_the_run() -> None:
    config = {**config_of(""), "optimizer": {"kind": "sgd", "step_size": 1e38}, "rounds": 50}
    with pytest.raises(MlmcRayError, match=r"lower the step size"), Session(config) as run:
        run.run()
