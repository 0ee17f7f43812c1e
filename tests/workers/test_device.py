"""Where workers compute. What needs a GPU is skipped without one."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from mlmc_ray.errors import ClusterError, ProblemError
from mlmc_ray.flat import CPU
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import ProblemSource, TensorShard
from mlmc_ray.wire import decode, encode
from tests.tasks import Regression
from workers.device import checked_device, moved, why_no_gpu
from workers.host import WorkerHost, WorkerPlan

META = torch.device("meta")  # tensors without numbers, on any machine
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


class Nested:
    """Regression, with batches that hold tensors in containers, and more than tensors."""

    def __init__(self, look: bool = False) -> None:
        self.look = look
        self.inner = Regression(batch_norm=True, dropout=0.5)
        self.model, self.evaluate = self.inner.model, self.inner.evaluate

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> "NestedShard":
        return NestedShard(self.inner.shard(worker_id, num_workers, generator))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if self.look:
            tensors = [*model.parameters(), *model.buffers(), *batch["rows"]]
            places = sorted({str(tensor.device) for tensor in tensors})
            raise ValueError(f"{batch['name']} on {places}")
        return self.inner.loss(model, tuple(batch["rows"]))


class NestedShard:
    """One worker's examples, in containers."""

    def __init__(self, own: TensorShard) -> None:
        self.own = own

    def full(self) -> Any:
        return {"rows": list(self.own.full()), "name": "all"}

    def sample(self, size: int, generator: Generator) -> Any:
        return {"rows": list(self.own.sample(size, generator)), "name": "some"}


def plan_of(device: str, batch_size: Any = "full", **options: Any) -> WorkerPlan:
    return WorkerPlan(
        problem=ProblemSource("tests.workers.test_device.Nested", options),
        method=DataParallelSGD(),
        num_workers=2,
        seed=3,
        batch_size=batch_size,
        buffers_every=1,
        device=device,
    )


def news() -> bytes:
    return encode(Message({"parameters": DensePayload(torch.linspace(-1, 1, 37))}))


def test_batches_are_moved_with_all_that_is_in_them() -> None:
    batch = {"x": [torch.ones(2), (torch.ones(3), "name")], "n": 3}
    assert moved(batch, CPU) is batch
    there = moved(batch, META)
    assert there["x"][0].device == there["x"][1][0].device == META
    assert there["x"][1][1] == "name"
    assert there["n"] == 3


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("batch_size", "name"), [("full", "all"), (4, "some")])
def test_model_and_batch_are_on_the_device(device: str, batch_size: Any, name: str) -> None:
    host = WorkerHost(plan_of(device, batch_size, look=True), [0, 1])
    with pytest.raises(ProblemError, match=rf"{name} on \['{device}'\]"):
        host.step(0, 0, [{0: news()}])


def test_every_worker_computes_on_its_own_shard() -> None:
    reports = WorkerHost(plan_of("cpu"), [0, 1]).step(0, 0, [{0: news(), 1: news()}])[0].reports
    alone = [
        WorkerHost(plan_of("cpu"), [i]).step(0, 0, [{i: news()}])[0].reports[i] for i in (0, 1)
    ]
    assert [reports[0], reports[1]] == alone
    assert reports[0] != reports[1]


def test_a_machine_without_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__version__", "2.0")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    with pytest.raises(ClusterError) as caught:
        WorkerHost(plan_of("cuda"), [0, 2])
    assert str(caught.value) == (
        "device is cuda, and torch finds no GPU for workers [0, 2] on node-7: torch 2.0 is built "
        "without CUDA: install one with it, or give device: cpu"
    )
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert why_no_gpu() == (
        "torch 2.0 is built for CUDA 12.9, and CUDA_VISIBLE_DEVICES is '': see whether nvidia-smi "
        "lists a GPU"
    )


def test_a_gpu_is_used_where_torch_finds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert checked_device("cuda", [0]) == torch.device("cuda")
    assert checked_device("cpu", [0]) == CPU


@GPU
def test_reports_and_states_of_a_gpu_are_those_of_the_cpu() -> None:
    hosts = [WorkerHost(plan_of(device), [0, 1]) for device in ("cpu", "cuda")]
    for host in hosts:  # dropout draws other units there: compare without
        for module in host._model.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    reports = [host.step(0, 0, [{0: news(), 1: news()}])[0].reports for host in hosts]
    for worker_id, frame in reports[0].items():
        expected, found = decode(frame).payloads, decode(reports[1][worker_id]).payloads
        assert set(expected) == set(found) == {"gradient", "buffers"}
        for name, payload in expected.items():
            torch.testing.assert_close(
                found[name].to_dense(), payload.to_dense(), rtol=1e-3, atol=1e-4
            )
    state = hosts[1].state_dict()
    assert {tensor.device for tensor in state[0]["buffers"].values()} == {CPU}
    hosts[0].load_state_dict(state)
    hosts[1].load_state_dict(hosts[0].state_dict())
    assert {tensor.device.type for tensor in hosts[1]._workers[0]._buffers.values()} == {"cuda"}
