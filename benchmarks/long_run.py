"""A hundred thousand rounds of a tiny problem on Ray: what memory and open files do.

python -m benchmarks.long_run --out benchmarks/results/long_run
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from launch import Session
from launch.engines.cluster import ray_cluster
from launch.versions import versions

CONFIG: dict[str, Any] = {
    "name": "long run",
    "problem": {"kind": "quadratic", "num_functions": 4, "dim": 1000},
    "method": {
        "kind": "compressed-sgd",
        "compressor": {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 10}},
    },
    "optimizer": {"kind": "sgd", "step_size": 0.001},
    "workers": 4,
    "actors": 2,
    "evaluate_every": 1_000_000,
    "observe_every": 1000,
}


def main(
    out: Annotated[Path, typer.Option(help="Directory for results and figure.")],
    rounds: Annotated[int, typer.Option(min=100, help="How many.")] = 100_000,
) -> None:
    """Run, look at every process a hundred times, and draw what was seen."""
    console = Console()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    samples, started = [], time.monotonic()
    with ray_cluster(None), Session(CONFIG) as session:
        processes = _processes(session)
        session.run(10)
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("rounds", total=rounds)
            while session.round_index < rounds:
                samples.append(_sample(session.round_index, processes))
                session.run(min(rounds // 100, rounds - session.round_index))
                progress.update(task, completed=session.round_index)
        samples.append(_sample(session.round_index, processes))
    seconds = time.monotonic() - started
    out.mkdir(parents=True, exist_ok=True)
    report = {"machine": versions(), "rounds": rounds, "seconds": seconds, "samples": samples}
    (out / "results.json").write_text(json.dumps(report) + "\n", encoding="utf-8")
    _draw(samples).savefig(out / "long_run.png", dpi=150)
    middle, last = samples[len(samples) // 2], samples[-1]
    for name in processes:
        console.print(
            f"{name}: {middle[name]['mib']:.1f} MiB after half of the rounds, "
            f"{last[name]['mib']:.1f} at the end; open files {middle[name]['files']}, "
            f"{last[name]['files']}"
        )
    console.print(
        f"object store: {middle['store_mib']:.2f} MiB, {last['store_mib']:.2f} at the end"
    )
    console.print(f"{rounds} rounds in {seconds:.0f} s")


def _processes(session: Session) -> dict[str, int]:
    """Return the process of every actor, and of this one."""
    engine: Any = session._engine
    named = {"server": engine._servers[0]}
    named |= {f"host {index}": host for index, host in enumerate(engine._hosts)}
    asked = {
        name: facade._actor.__ray_call__.remote(lambda _: os.getpid())
        for name, facade in named.items()
    }
    return {**{name: ray.get(pid) for name, pid in asked.items()}, "driver": os.getpid()}


def _sample(round_index: int, processes: dict[str, int]) -> dict[str, Any]:
    """Return memory in MiB and open files of every process, and the use of the object store."""
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    used = total["object_store_memory"] - free.get("object_store_memory", 0.0)
    return {
        "round": round_index,
        "store_mib": used / 2**20,
        **{
            name: {"mib": _resident_mib(pid), "files": len(os.listdir(f"/proc/{pid}/fd"))}
            for name, pid in processes.items()
        },
    }


def _resident_mib(pid: int) -> float:
    """Return the memory that only this process has; what is mapped from files is left out."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**10


def _draw(samples: list[dict[str, Any]]) -> Figure:
    """Draw memory and open files against rounds."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    memory, files = figure.subplots(1, 2)
    rounds = [sample["round"] for sample in samples]
    names = [name for name, value in samples[0].items() if isinstance(value, dict)]
    for name in names:
        memory.plot(rounds, [sample[name]["mib"] for sample in samples], label=name)
        files.plot(rounds, [sample[name]["files"] for sample in samples], label=name)
    memory.plot(rounds, [s["store_mib"] for s in samples], "k:", label="object store")
    for axes, label in ((memory, "MiB"), (files, "open files")):
        axes.set_xlabel("rounds")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    memory.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    typer.run(main)
