"""A replica's state as a message: exact, or refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mlmc_ray.compressors import RandK, TopK
from mlmc_ray.downlinks.state import load_message, state_message
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.methods import DIANA, EF21SGDM, SVRG
from mlmc_ray.methods.base import Half, Method
from mlmc_ray.optimizers import SGD, Adam, AdamW, Optimizer, ProximalSGD
from mlmc_ray.payloads import DensePayload, Message, Payload
from mlmc_ray.replica import Replica
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import decode, encode
from tests.mlmc_ray.downlinks.replicas import replica_of

OPTIMIZERS: list[Optimizer] = [
    SGD(step_size=0.1),
    SGD(step_size=0.1, momentum=0.9),
    SGD(step_size=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    Adam(step_size=0.1),
    AdamW(step_size=0.1),
    ProximalSGD(step_size=0.1, l1=0.01, l2=0.01),
]
NAMES = {"change": EF21SGDM, "difference": DIANA}


def stepped(replica: Replica, rounds: int, name: str = "change") -> None:
    dim = len(replica.parameters)
    for round_index in range(rounds):
        draws = generator_for(5, round_index)
        payloads: dict[str, Payload] = {name: DensePayload(torch.randn(dim, generator=draws))}
        if replica.num_averages:
            payloads["buffers"] = DensePayload(torch.rand(4 + 1, generator=draws)[:4])
        replica.estimate(dict.fromkeys(range(3), Message(payloads)), round_index, 0)
        replica.step(0.0, round_index)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def sent(replica: Replica, *, lacking: bool = True) -> Message:
    return decode(encode(state_message(replica, lacking=lacking)))


@pytest.mark.parametrize("rounds", [0, 1, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("inputs", [9, 1])
def test_all_that_is_remembered_is_taken_over(
    inputs: int, optimizer: Optimizer, rounds: int
) -> None:
    def make() -> Replica:
        method = EF21SGDM(compressor=TopK(k=1))
        return replica_of(inputs, method=method, optimizer=optimizer)

    one, other = make(), make()
    stepped(one, rounds)
    load_message(other, sent(one))
    assert same(one.state_dict(), other.state_dict())
    stepped(one, 3)
    stepped(other, 3)
    assert same(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("lacking", [True, False])
def test_statistics_are_taken_over(lacking: bool) -> None:
    def make() -> Replica:
        method = EF21SGDM(compressor=TopK(k=1))
        return replica_of(method=method, optimizer=OPTIMIZERS[1], norm=True)

    one, other = make(), make()
    stepped(one, 2)
    assert load_message(other, sent(one, lacking=lacking)) is lacking
    assert torch.equal(one.statistics, other.statistics)
    assert other.num_averages == one.num_averages == 3


# Every sort of memory that a method may have.

MEMORIES: dict[str, Tensor] = {
    "matrix": torch.arange(6.0).reshape(2, 3),
    "two words": torch.arange(5.0),
    "number": torch.tensor(0.1),
    "exact": torch.tensor(0.1, dtype=torch.float64),
    "count": torch.tensor(-(1 << 53)),
    "flag": torch.tensor(True),
    "one": torch.tensor([[3.0]]),
    "averages": torch.tensor(7),  # also a name of the message's own
}


def replica_with(memory: dict[str, Any], method: Method | None = None) -> Replica:
    replica = replica_of(method=method or DIANA(compressor=RandK(k=1)), optimizer=OPTIMIZERS[0])
    half = replica._half
    assert isinstance(half, Half)
    half.memory = memory
    return replica


def test_memory_of_every_sort_is_taken_over() -> None:
    other = replica_with({})
    load_message(other, sent(replica_with(MEMORIES)))
    assert same(other.state_dict()["half"], MEMORIES)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.arange(3), r"of shape \(3,\) and type torch.int64"),
        (torch.ones(3, dtype=torch.bool), r"of shape \(3,\) and type torch.bool"),
        (torch.ones(3, dtype=torch.float64), r"of shape \(3,\) and type torch.float64"),
        (torch.tensor(1 << 62), r"of shape \(\) and type torch.int64"),
        (torch.tensor(1, dtype=torch.int32), r"of shape \(\) and type torch.int32"),
        (torch.ones(0), r"of shape \(0,\) and type torch.float32"),
    ],
)
def test_memory_that_no_message_holds_exactly_is_refused(tensor: Tensor, text: str) -> None:
    replica = replica_with({"strange": tensor})
    with pytest.raises(
        RoundError, match=rf"^downlink is relay, and the half remembers 'strange' {text}"
    ):
        state_message(replica, lacking=False)


class Counting(torch.optim.SGD):
    """An optimizer whose state is no tensor."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        (parameter,) = self.param_groups[0]["params"]
        self.state[parameter]["steps"] = 3


class CountingSettings:
    step_size = 0.1

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        return Counting([parameter], lr=0.1)


def test_an_optimizer_that_remembers_no_tensors_is_refused() -> None:
    replica = replica_of(method=EF21SGDM(compressor=TopK(k=1)), optimizer=CountingSettings())
    stepped(replica, 1)
    with pytest.raises(RoundError, match="the optimizer remembers 'steps' which is 3, which no"):
        state_message(replica, lacking=False)


# Hostile messages.


def state() -> tuple[dict[str, Payload], dict[str, float]]:
    replica = replica_of(method=SVRG(compressor=RandK(k=1), refresh=2), optimizer=OPTIMIZERS[3])
    stepped(replica, 1, "gradient")
    message = sent(replica)
    return dict(message.payloads), dict(message.scalars)


def ones(entries: int) -> Payload:
    return DensePayload(torch.ones(entries))


Change = Callable[[dict[str, Payload], dict[str, float]], object]
HOSTILE: dict[str, list[Change]] = {
    "parameters: expected 10 entries, got nothing": [lambda p, _: p.pop("parameters")],
    "parameters: expected 10 entries, got 9 entries": [
        lambda p, _: p.__setitem__("parameters", ones(9))
    ],
    "averages: expected 1 entries, got nothing": [lambda _, s: s.pop("averages")],
    "averages: expected a whole number, got": [
        lambda _, s: s.__setitem__("averages", 0.5),
        lambda _, s: s.__setitem__("averages", -1.0),
    ],
    "buffers: expected 0 entries, got nothing": [lambda _, s: s.__setitem__("averages", 1.0)],
    "lacking: expected 1 entries, got nothing": [lambda _, s: s.pop("lacking")],
    "'half x 3 torch.float32': names no tensor": [
        lambda p, _: p.__setitem__("half x 3 torch.float32", ones(2))
    ],
    "'half x -1 torch.float32': names no tensor": [
        lambda p, _: p.__setitem__("half x -1 torch.float32", ones(2))
    ],
    "'half x 2 torch.int32': names no tensor": [
        lambda p, _: p.__setitem__("half x 2 torch.int32", ones(2))
    ],
    "'half x 2': names no tensor": [lambda p, _: p.__setitem__("half x 2", ones(2))],
    "'optimizer x axb torch.float32': names no tensor": [
        lambda p, _: p.__setitem__("optimizer x axb torch.float32", ones(2))
    ],
}


@pytest.mark.parametrize(
    ("text", "change"), [(text, change) for text, many in HOSTILE.items() for change in many]
)
def test_what_is_no_state_is_refused_by_name(text: str, change: Change) -> None:
    payloads, scalars = state()
    change(payloads, scalars)
    replica = replica_of(method=SVRG(compressor=RandK(k=1), refresh=2), optimizer=OPTIMIZERS[3])
    with pytest.raises(WireError, match=f"^{text}"):
        load_message(replica, Message(payloads, scalars))
