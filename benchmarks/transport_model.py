"""How interface bytes follow from frames: measured in a lab, and fitted.

Messages of many sizes cross between a server and four hosts, each on a node of its own, and the
counters of the interfaces say what they came to. ``fit`` prints the constants of
``launch.wire.transport`` and how far the model is off for every size. Needs Linux, root, iproute2.

    python -m benchmarks.transport_model run --rate 1gbit --json benchmarks/results/transport.json
    python -m benchmarks.transport_model fit benchmarks/results/transport.json
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor, nn

from launch import Session
from launch.lab.outside import run_in_lab
from launch.lab.plan import LabPlan
from launch.many.progress import RunsProgress
from launch.planning import parse_rate
from launch.wire.exchanges import Call
from launch.wire.measured import NOTHING, Flow, Measured
from launch.wire.measuring import measure
from launch.wire.plan import WirePlan
from launch.wire.transport import CARRIED, HEADERS, RAY, BothWays, Transport, on_links_of
from mlmc_ray.problems.base import TensorShard
from mlmc_ray.problems.functions import Variables
from mlmc_ray.rounds import INLINE_BYTES

HOSTS = 4
BOTH_LARGE = (60, 250, 1000, 2500, 12_000, 25_000, 30_000, 100_000, 1_000_000)
NEWS_LARGE = (2500, 12_000, 25_000, 30_000, 100_000, 1_000_000)
"""Parameters: of uncompressed SGD, and with a report of a hundredth of them."""

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainVector:
    """So many parameters, whose gradient is themselves: nothing but messages takes time."""

    dim: int

    def model(self) -> nn.Module:
        """The parameters, all 1."""
        return Variables(torch.ones(self.dim))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Half their squared norm."""
        vector: Tensor = model(None)
        return 0.5 * (vector @ vector)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """One example that nobody looks at."""
        return TensorShard((torch.zeros(1),))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The first parameter."""
        return {"first": float(model(None)[0].detach())}


def _config(dim: int, share: float | None) -> dict[str, Any]:
    compressor = {"kind": "top-k", "k": share}
    sparse = {"kind": "compressed-sgd", "compressor": compressor}
    return {
        "name": f"{dim} parameters, {'all' if share is None else share} reported",
        "problem": {"kind": "benchmarks.transport_model.PlainVector", "dim": dim},
        "method": "sgd" if share is None else sparse,
        "optimizer": {"kind": "sgd", "step_size": 0.001},
        "workers": HOSTS,
    }


def _rounds(dim: int) -> int:
    return max(10, min(100, 4_000_000 // dim))


def _measure_all(rate: float | None, out: Path) -> None:
    """Measure every size, inside the lab."""
    cells: list[tuple[int, float | None]] = [(dim, None) for dim in BOTH_LARGE]
    cells += [(dim, 0.01) for dim in NEWS_LARGE]
    found = []
    with RunsProgress(Console(stderr=True)) as progress, TemporaryDirectory() as directory:
        for dim, share in cells:
            path = Path(directory, "config.json")  # JSON is YAML
            path.write_text(json.dumps(_config(dim, share)))
            plan = WirePlan(config=str(path), hosts=HOSTS, rounds=_rounds(dim), rate=rate)
            progress.begin(_config(dim, share)["name"], plan.rounds + plan.warm_up)
            with Session(plan.run()) as session:
                cell = measure(session, plan, lambda: progress.advance(1))
            found.append(asdict(Cell.of(cell)))
            out.write_text(json.dumps(found))
            progress.note(f"{cell.name}: {cell.arrived.both / cell.account.frames.both:.4f}")
    out.write_text(json.dumps(found))


@app.command()
def run(
    json_path: Annotated[Path, typer.Option("--json", help="Write the measurements here.")],
    rate: Annotated[str, typer.Option(help="Of every link.")] = "1gbit",
) -> None:
    """Measure messages of all sizes, some minutes long."""
    speed = parse_rate(rate)
    with TemporaryDirectory() as directory:
        out = Path(directory, "found.json")
        inner = [sys.executable, "-m", "benchmarks.transport_model", "inside", str(out), str(speed)]
        if status := run_in_lab(LabPlan(nodes=HOSTS + 2, rate=speed), inner):
            raise SystemExit(status)
        cells = json.loads(out.read_text())
    versions = {name: metadata.version(name) for name in ("ray", "torch")}
    report = {"rate": rate, "versions": versions, "cells": cells}
    json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@app.command(hidden=True)
def inside(out: Path, rate: float) -> None:
    """What ``run`` runs in the lab."""
    _measure_all(rate, out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A size of messages; all in bytes a round.

    Attributes:
        name: of the messages.
        news: the frame to a host.
        report: the frame from it.
        host: on the interface of a host, the mean of all; what it sends on to others of a
            broadcast in the object store is part of it.
        server: on the interface of the server.
        driver: on the interface of the driver, and of Ray's head.
        seconds: of a round.
        retransmitted: TCP segments that were sent again in all rounds.
    """

    name: str
    news: float
    report: float
    host: Flow
    server: Flow
    driver: Flow
    seconds: float
    retransmitted: int

    @classmethod
    def of(cls, found: Measured) -> "Cell":
        """Return what was measured, a round."""
        each = 1 / HOSTS / found.rounds
        hosts = sum((node.interface for node in found.hosts), NOTHING)
        driver, server = found.nodes[:2]
        return cls(
            name=found.name,
            news=found.account.frames.received * each,
            report=found.account.frames.sent * each,
            host=hosts * each,
            server=server.interface * (1 / found.rounds),
            driver=driver.interface * (1 / found.rounds),
            seconds=found.seconds / found.rounds,
            retransmitted=sum(node.retransmitted for node in found.nodes),
        )

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> "Cell":
        """Return what ``asdict`` made of one."""
        flows = {name: Flow(**values[name]) for name in ("host", "server", "driver")}
        return cls(**{**values, **flows})

    @property
    def stored_news(self) -> bool:
        """Whether the news go through the object store."""
        return self.news > INLINE_BYTES

    @property
    def stored_report(self) -> bool:
        """Whether the answer does."""
        return self.report > INLINE_BYTES

    def talk(self, calls: BothWays) -> Flow:
        """Return what a node hears from the head beside the driver's calls, and tells it."""
        beside = self.driver - Flow(received=calls.uplink, sent=calls.downlink)
        return beside.at_other_end * (1 / (HOSTS + 1))

    def predicted(self, transport: Transport) -> tuple[float, float]:
        """Return what the model says that a host and the server receive."""
        calls = transport.of_driver(rounds=1, frames=2 * HOSTS)
        news, reports = (round(self.news),), (round(self.report),)
        host = transport.of(Call(host=0, news=news, reports=reports))
        talk = self.talk(calls).received
        return host.downlink + talk, HOSTS * host.uplink + calls.downlink + talk


def driver_calls(cells: list[Cell]) -> BothWays:
    """Return what the driver's call of a round comes to, where the object store is not used."""
    small = [cell.driver for cell in cells if not cell.stored_news]
    down, up = (float(np.median([getattr(f, way) for f in small])) for way in ("sent", "received"))
    return BothWays(down, up)


def fitted(cells: list[Cell], origin: str) -> Transport:
    """Return the constants for which the relative errors are least, in squares.

    What a host sends is taken from its own counters only where it can send nothing on.
    """
    calls = driver_calls(cells)
    rows, values = [], []
    for cell in cells:
        news, report, talk = cell.stored_news, cell.stored_report, cell.talk(calls)
        inline, stored = (0, cell.report) if report else (cell.report, 0)
        down = np.array([inline, stored, 1, 0, news, 0, report, 0], float)
        up = np.array([cell.news, 0, 0, 1, 0, news, 0, report], float)
        packets = [HEADERS * (size > CARRIED) for size in (cell.report, cell.news)]
        known = (
            RAY.per_byte * cell.news + packets[0] + talk.received,
            RAY.per_byte * cell.report + packets[1],
        )
        at_server = HOSTS * known[1] + calls.downlink + talk.received
        equations = [(down, cell.host.received, known[0])]
        equations += [(HOSTS * up, cell.server.received, at_server)]
        equations += [] if news else [(up, cell.host.sent, known[1] + talk.sent)]
        rows += [row / measured for row, measured, _ in equations]
        values += [1 - part / measured for _, measured, part in equations]
    found = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0].tolist()
    return replace(
        RAY,
        acknowledged=found[0],
        answer_acknowledged=found[1],
        call=BothWays(found[2], found[3]),
        stored_news=BothWays(found[4], found[5]),
        stored_answer=BothWays(found[6], found[7]),
        driver_call=BothWays(calls.downlink, calls.uplink - 2 * HOSTS * RAY.driver_frame),
        origin=origin,
    )


@app.command()
def fit(
    json_path: Path,
    known: Annotated[
        bool, typer.Option(help="Look at the constants of launch.wire.transport instead.")
    ] = False,
) -> None:
    """Print the constants, and how far the model with them is off for every size."""
    console = Console(width=120)
    report = json.loads(json_path.read_text(encoding="utf-8"))
    cells = [Cell.from_mapping(cell) for cell in report["cells"]]
    transport = fitted(cells, f"Ray {report['versions']['ray']}, links of {report['rate']}")
    if known:
        transport = on_links_of(parse_rate(report["rate"]))
    console.print(transport)
    table = Table("messages", "down", "model", "off by", "up", "model", "off by", "both off by")
    for cell in cells:
        measured, model = (cell.host.received, cell.server.received), cell.predicted(transport)
        numbers = [
            text
            for one, other in zip(measured, model, strict=True)
            for text in (f"{one:.0f}", f"{other:.0f}", f"{100 * (other / one - 1):+.2f}%")
        ]
        both = (HOSTS * model[0] + model[1]) / (HOSTS * measured[0] + measured[1]) - 1
        table.add_row(cell.name, *numbers, f"{100 * both:+.2f}%")
    console.print(table)


if __name__ == "__main__":
    app()
