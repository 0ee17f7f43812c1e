r"""Memory and seconds of a run whose parameters are cut into spans, each with a server of its own.

    python -m benchmarks.servers --json benchmarks/results/servers-MACHINE.json

runs on this machine, and on the nodes of a lab

    sudo python -m launch.lab run --nodes 5 --cpus-per-node 2 --store-mib 3000 -- \
        python -m benchmarks.servers

The problem costs next to nothing, so that a round is frames, servers and copies.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import ray
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor, nn

from launch import Session
from launch.benching.measuring import machine
from mlmc_ray.problems import TensorShard, split_evenly

_MIB = 1 << 20
_NUM_LAYERS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Centres:
    """The mean of |x - b 1|^2 / 2 over examples b, numbers: its gradient is x less their mean.

    Args:
        dim: entries of x, which are shared out to ten layers of one vector each.
    """

    dim: int

    def model(self) -> nn.Module:
        """The layers, which begin at normal values."""
        sizes = [self.dim // _NUM_LAYERS] * (_NUM_LAYERS - 1)
        sizes.append(self.dim - sum(sizes))
        return nn.ParameterList([nn.Parameter(torch.randn(size)) for size in sizes])

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean over a batch, but for what does not depend on x."""
        centre = batch[0].mean()
        parts = [layer.dot(layer) / 2 - centre * layer.sum() for layer in model.parameters()]
        return torch.stack(parts).sum()

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Some of 64 numbers."""
        return split_evenly((torch.linspace(-1, 1, 64),), worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """The first entry."""
        return {"first": next(model.parameters())[0].item()}


def memory(_: object) -> dict[str, float]:
    """Return the MiB of this process in memory, and the most there were, on Linux.

    Frames in Ray's object store, which processes of a node share, are in the most alone.
    """
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    kib = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if "kB" in line}
    return {"own": int(kib["RssAnon"]) / 1024, "peak": int(kib["VmHWM"]) / 1024}


def node(_: object) -> str:
    """Return which node of the cluster this process is on."""
    return str(ray.get_runtime_context().get_node_id())


def measure(dim: int, servers: int, rounds: int) -> dict[str, Any]:
    """Return the memory of every server, the seconds of the rounds, and a digest of the end."""
    config = {
        "problem": {"kind": "benchmarks.servers.Centres", "dim": dim},
        "method": "sgd",
        "optimizer": {"kind": "sgd", "step_size": 0.1, "momentum": 0.9},
        "downlink": "half",
        "servers": servers,
        "workers": 4,
        "actors": 2,
        "placement": "spread",
        "batch_size": 4,
        "observe_every": None,
    }
    seconds = []
    with Session(config) as session:
        engine: Any = session._engine
        ready = [one._actor.__ray_call__.remote(memory) for one in engine._servers]
        before = [one["own"] for one in ray.get(ready)]
        for _ in range(rounds):
            started = time.perf_counter()
            engine.round(observe=False)
            seconds.append(time.perf_counter() - started)
        nodes = ray.get([one._actor.__ray_call__.remote(node) for one in engine._servers])
        found = ray.get([one._actor.__ray_call__.remote(memory) for one in engine._servers])
        parameters = session.parameters().numpy()
    return {
        "servers": [{"at the start": b, **own} for b, own in zip(before, found, strict=True)],
        "nodes": len(set(nodes)),
        "seconds": seconds,
        "digest": hashlib.blake2b(parameters.data, digest_size=8).hexdigest(),
    }


def main(
    dim: Annotated[int, typer.Option(min=40, help="Parameters.")] = 100_000_000,
    rounds: Annotated[int, typer.Option(min=2, help="Of which the first is left out.")] = 6,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Run the same with one server and with four, each an actor, four workers and two hosts."""
    table = Table(title=f"{dim:,} parameters of {4 * dim / _MIB:,.0f} MiB")
    for heading in ("server", "MiB at the start", "after", "peak, shared too", "seconds a round"):
        table.add_column(heading, justify="right")
    rows = {}
    for servers in (1, 4):
        found = rows[servers] = measure(dim, servers, rounds)
        typical = f"{statistics.median(found['seconds'][1:]):.2f}"
        for index, own in enumerate(found["servers"], start=1):
            sizes = (f"{own[name]:.0f}" for name in ("at the start", "own", "peak"))
            table.add_row(f"{index} of {servers}", *sizes, typical if index == servers else "")
    console = Console()
    console.print(table)
    console.print(f"nodes that had one of the four servers, or more: {rows[4]['nodes']}")
    same = rows[1]["digest"] == rows[4]["digest"]
    console.print(f"parameters are {'bit-identical' if same else 'DIFFERENT'}")
    if json_path is not None:
        settings = {"dim": dim, "rounds": rounds, "workers": 4, "hosts": 2, "downlink": "half"}
        results = {"machine": machine(), "settings": settings, "runs": rows}
        json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
