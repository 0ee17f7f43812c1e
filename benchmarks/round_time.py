"""How long a synchronous round takes, here and in the parameter server of Ray's documentation.

Both run on one local Ray cluster, in one run, in alternating blocks, so that whatever else the
machine does hits both alike. Four workers, one minibatch each a round, one torch thread a process.

    python -m benchmarks.round_time --json benchmarks/results/round_time-MACHINE.json
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.documented_server import DocumentedServer
from launch import Session
from launch.configuration.run_config import RunConfig, load_config
from launch.engines.cluster import ray_cluster

WORKERS = 4
BATCH_SIZE, SMALL_BATCH_SIZE = 32, 4
STEP_SIZE = 0.002  # small: only the time counts, and training must not diverge
SEED = 1
PROBLEM = "benchmarks.wide_digits.WideDigits"
THEIRS = ("theirs, waiting each round", "theirs, pipelined")
S_TOP_K = {
    "kind": "compressed-sgd",
    "compressor": {
        "kind": "mlmc",
        "law": "adaptive",
        "ladder": {"kind": "s-top-k", "segment_size": 0.01},
    },
}
BLOCKS = {
    "kind": "compressed-sgd",
    "compressor": {
        "kind": "mlmc",
        "law": "adaptive",
        "ladder": {"kind": "s-top-k", "segment_size": 0.0005, "contiguous": True},
    },
}
THRESHOLDS = {"kind": "compressed-sgd", "compressor": {"kind": "shared-thresholds", "rms": 100}}
FULL: dict[str, dict[str, Any]] = {
    "SGD": {"method": "sgd"},
    "MLMC s-Top-k 1%": {"method": S_TOP_K},
}
RUNS: dict[str, dict[str, Any]] = {
    "SGD": {"method": "sgd"},
    "MLMC s-Top-k 1%, relay": {"method": S_TOP_K, "downlink": "relay"},
    "MLMC blocks 0.05%, relay": {"method": BLOCKS, "downlink": "relay"},
    "shared-thresholds 100 rms, relay": {"method": THRESHOLDS, "downlink": "relay"},
}
"""Settings of a configuration; those of ``FULL`` send all parameters down."""
HOST_ACTORS = {name: (2, 1) for name in RUNS} | {"SGD": (4, 2, 1)}
"""How many actors share the workers, by run."""

Rounds = Callable[[int], list[float]]
"""Runs some rounds and returns times in seconds a round: one each, or one for all of them."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Something whose rounds are timed; ``block_ms`` holds the times of one block each."""

    name: str
    run: Rounds
    block_ms: list[list[float]] = field(default_factory=list)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile over the times of all blocks."""
        return float(np.percentile([time for block in self.block_ms for time in block], percent))


def main(
    widths: Annotated[
        list[int] | None,
        typer.Option("--width", help="Hidden units; may be repeated. [default: 190, 857, 2512]"),
    ] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks of every contender.")] = 12,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds a block.")] = 10,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Time synchronous rounds of four workers against the parameter server of Ray's documentation.

    Batches have 32 examples, and of the last width also 4, whose gradients cost less. The widths
    are those of perceptrons with two hidden layers: 190, 857 and 2512 give 50,550, 799,591 and
    6,501,066 parameters. Ratios are medians of ours over theirs; below 1 is faster.
    """
    console = Console()
    settings = {"workers": WORKERS, "blocks": blocks, "rounds_per_block": rounds}
    sizes = []
    with ray_cluster(None):
        asked = [(width, BATCH_SIZE) for width in widths or [190, 857, 2512]]
        for width, batch_size in [*asked, (asked[-1][0], SMALL_BATCH_SIZE)]:
            sizes.append(_measure(width, batch_size, blocks, rounds, console))
            console.print(_table(sizes[-1]))
            if json_path is not None:  # after every size: each takes minutes
                json_path.parent.mkdir(parents=True, exist_ok=True)
                report = {"machine": _machine(), "settings": settings, "sizes": sizes}
                json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if json_path is not None:
        console.print(f"results: {json_path}", soft_wrap=True, highlight=False)


def _measure(
    width: int, batch_size: int, blocks: int, rounds: int, console: Console
) -> dict[str, Any]:
    """Time every contender on one size of model, a block of each in turn."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        )
        task = progress.add_task(f"width {width}: starting", total=blocks)
        contenders, parameters = _contenders(width, batch_size, stack)
        for contender in contenders:  # the first rounds import, connect and allocate
            contender.run(3)
        progress.update(task, description=f"width {width}")
        for block in range(blocks):
            turn = block % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                times = contender.run(rounds)
                contender.block_ms.append([1e3 * seconds for seconds in times])
            progress.advance(task)
    return {
        "width": width,
        "batch_size": batch_size,
        "parameters": parameters,
        "round_ms": {c.name: _summary(c, contenders) for c in contenders},
    }


def _contenders(width: int, batch_size: int, stack: ExitStack) -> tuple[list[Contender], int]:
    """Start all contenders on one problem; return them and the number of parameters."""
    sessions = {}
    for run_name, settings in RUNS.items():
        for actors in HOST_ACTORS[run_name]:
            config = _config(width, batch_size, actors, settings)
            hosts = "1 host actor" if actors == 1 else f"{actors} host actors"
            sessions[f"{run_name}, {hosts}"] = stack.enter_context(Session(config))
    theirs = stack.enter_context(_documented(_config(width, batch_size, WORKERS, RUNS["SGD"])))
    uncompressed = next(iter(sessions.values()))
    _check_same_training(uncompressed, theirs)
    contenders = [Contender(name, _timing_session(session)) for name, session in sessions.items()]
    contenders.append(Contender(THEIRS[0], _timing_each(theirs)))
    contenders.append(Contender(THEIRS[1], _timing_all(theirs)))
    return contenders, uncompressed.dim


def _check_same_training(ours: Session, theirs: DocumentedServer) -> None:
    """Make sure that both sides do the same work: the same parameters after three rounds.

    Raises:
        AssertionError: they differ by more than the order of a sum explains.
    """
    for _ in range(3):
        theirs.submit_round()
    ours.run(3)
    torch.testing.assert_close(ours.parameters(), theirs.parameters(), rtol=1e-4, atol=1e-6)


def _config(width: int, batch_size: int, actors: int, settings: dict[str, Any]) -> RunConfig:
    return load_config(
        {
            "problem": {"kind": PROBLEM, "width": width},
            **settings,
            "optimizer": {"kind": "sgd", "step_size": STEP_SIZE},
            "seed": SEED,
            "workers": WORKERS,
            "batch_size": batch_size,
            "evaluate_every": 10**9,
            "actors": actors,
        }
    )


@contextmanager
def _documented(config: RunConfig) -> Iterator[DocumentedServer]:
    assert isinstance(config.batch_size, int)
    server = DocumentedServer(
        config.problem,
        seed=SEED,
        step_size=STEP_SIZE,
        num_workers=WORKERS,
        batch_size=config.batch_size,
    )
    try:
        yield server
    finally:
        server.close()


def _timing_session(session: Session) -> Rounds:
    def run(rounds: int) -> list[float]:
        ends = [time.perf_counter()]
        # The last round of a run is followed by an evaluation: it is run, and not counted.
        session.run(rounds + 1, on_round=lambda _: ends.append(time.perf_counter()))
        return list(np.diff(ends[:-1]))

    return run


def _timing_each(theirs: DocumentedServer) -> Rounds:
    def run(rounds: int) -> list[float]:
        ends = [time.perf_counter()]
        for _ in range(rounds):
            theirs.submit_round()
            theirs.wait()
            ends.append(time.perf_counter())
        return list(np.diff(ends))

    return run


def _timing_all(theirs: DocumentedServer) -> Rounds:
    def run(rounds: int) -> list[float]:
        started = time.perf_counter()
        for _ in range(rounds):
            theirs.submit_round()
        theirs.wait()
        return [(time.perf_counter() - started) / rounds]

    return run


def _summary(contender: Contender, contenders: list[Contender]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "median": round(contender.percentile_ms(50), 3),
        "p10": round(contender.percentile_ms(10), 3),
        "p90": round(contender.percentile_ms(90), 3),
    }
    if contender.name not in THEIRS:
        medians = {c.name: c.percentile_ms(50) for c in contenders if c.name in THEIRS}
        summary["ratio_to"] = {
            name: round(contender.percentile_ms(50) / median, 3) for name, median in medians.items()
        }
    return summary


def _table(size: dict[str, Any]) -> Table:
    title = f"{size['parameters']:,} parameters, batches of {size['batch_size']}: ms a round"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("median", "10%", "90%", "ratio to\nwaiting", "ratio to\npipelined"):
        table.add_column(column, justify="right")
    for name, row in size["round_ms"].items():
        times = [f"{row[key]:.1f}" for key in ("median", "p10", "p90")]
        ratios = [f"{row['ratio_to'][other]:.2f}" for other in THEIRS] if "ratio_to" in row else []
        table.add_row(name, *times, *ratios)
    return table


def _machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = {name: metadata.version(name) for name in ("ray", "torch", "numpy", "msgpack")}
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
        "torch_threads_per_process": torch.get_num_threads(),
    }


if __name__ == "__main__":
    typer.run(main)
