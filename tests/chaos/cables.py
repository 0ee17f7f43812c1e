"""Trials in which the cable of an actor's node is pulled and plugged again, each in its own lab.

python -m tests.chaos.cables --trials 20
"""

import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import ray
import typer

from launch import Session
from launch.lab.inside import plug_cable
from launch.lab.plan import node_at
from tests.chaos.faults import Fault, actors_of
from tests.chaos.trials import run, trial_of

ONE = "import sys; from tests.chaos.cables import disturbed; sys.exit(disturbed(int(sys.argv[1])))"
VICTIMS = ("host 0", "host 1", "server 0")


def unplugged(victim: str, seconds: float) -> Fault:
    """Pull the cable of an actor's node for some seconds."""

    def find(session: Session) -> Callable[[], None]:
        asked: Any = actors_of(session)[victim].__ray_call__
        node = node_at(ray.get(asked.remote(_own_address)))

        def pull() -> None:
            plug_cable(node, plugged=False)
            threading.Timer(seconds, lambda: plug_cable(node, plugged=True)).start()

        return pull

    return find


def _own_address(_: object) -> Any:
    return ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]


def disturbed(seed: int) -> bool:
    """Run a trial in this lab, say what came of it, and return whether it went wrong."""
    draws = random.Random(f"cable {seed}")
    victim, seconds = draws.choice(VICTIMS), draws.uniform(2, 10)
    trial = trial_of(seed, ("cable",))
    notes: list[str] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        wrong = run(trial, Path(place) / "run", unplugged(victim, seconds), notes.append)
    anew = any("started" in line for line in notes)
    cut = f"{trial}, cable of {victim} pulled for {seconds:.1f} s"
    what = "lost and started anew" if anew else "waited for"
    print(f"{cut}, {what}: {wrong or 'as if undisturbed'}")
    return bool(wrong)


def in_lab(seed: int) -> subprocess.CompletedProcess[str]:
    """Run a trial in a lab of a head and four nodes."""
    lab = ("launch.lab", "run", "--nodes", "5", "--cpus-per-node", "1")
    command = (sys.executable, "-m", *lab, "--", sys.executable, "-c", ONE, str(seed))
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def main(
    trials: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    first: Annotated[int, typer.Option(min=0, help="The seed of the first one.")] = 0,
) -> None:
    """Pull cables, and compare what comes of the runs with others in one process."""
    passed = 0
    for seed in range(first, first + trials):
        try:
            done = in_lab(seed)
        except subprocess.TimeoutExpired as error:
            print(f"seed {seed}: {error}")
            continue
        passed += not done.returncode
        print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr)
    print(f"{passed} of {trials} ended as if undisturbed")
    sys.exit(passed < trials)


if __name__ == "__main__":
    typer.run(main)
