"""Seeded trials: a run is disturbed somewhere, and compared with one that was not."""

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from launch import Session
from launch.callbacks import Callback
from mlmc_ray.errors import MlmcRayError
from mlmc_ray.ledger import Ledger
from tests.chaos.faults import Disturb, Fault, killed

ROOT = Path(__file__).parents[2]
ROUNDS = 12
TOP_K = {"kind": "top-k", "k": 5}
RAND_K = {"kind": "rand-k", "k": 5}
LADDER = {"kind": "s-top-k", "segment_size": 5}
SGD = {"kind": "sgd", "step_size": 0.05}

# By name, the method, and an optimizer for those that need one.
METHODS: Mapping[str, dict[str, Any]] = {
    "SGD": {"method": "sgd", "optimizer": SGD},
    "MLMC": {
        "method": {"kind": "compressed-sgd", "compressor": {"kind": "mlmc", "ladder": LADDER}},
        "optimizer": SGD,
    },
    "EF21-SGDM": {"method": {"kind": "ef21-sgdm", "compressor": TOP_K}, "optimizer": SGD},
    "DIANA": {"method": {"kind": "diana", "compressor": RAND_K}, "optimizer": SGD},
    "MARINA": {"method": {"kind": "marina", "compressor": RAND_K}, "optimizer": SGD},
}
DOWNLINKS = ("full", "delta", "relay")
CHECKPOINTS = (None, {"every": 3}, {"every": 5})


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    """Return the configuration of a run of one of the methods."""
    return {
        "problem": {"kind": "tests.tasks.Regression"},
        "search_paths": [str(ROOT)],
        "workers": 4,
        "actors": 2,
        "batch_size": 5,
        "rounds": ROUNDS,
        "evaluate_every": 4,
        **METHODS[name],
        **changes,
    }


@dataclass(frozen=True, slots=True)
class Ending:
    """What a run comes to."""

    parameters: Tensor
    ledger: Ledger
    measures: list[dict[str, Any]]

    def difference(self, other: "Ending") -> str:
        """Return what differs; "" if nothing does."""
        same = {
            "parameters": torch.equal(self.parameters, other.parameters),
            "ledger": self.ledger == other.ledger,
            "metrics": self.measures == other.measures,
        }
        return ", ".join(name for name, equal in same.items() if not equal)


def ending_of(session: Session) -> Ending:
    """Return what a session has come to."""
    measures = [{**metrics, "seconds": 0} for metrics in session.metrics]
    return Ending(session.parameters(), session.ledger, measures)


@cache
def undisturbed(name: str, downlink: str) -> Ending:
    """Return the end of a run in one process, to which nothing happens."""
    with Session(config_of(name, downlink=downlink, engine="inline")) as session:
        session.run()
        return ending_of(session)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What is done to which run.

    Args:
        seed: of the trial.
        method: a name in ``METHODS``.
        downlink: of the run.
        checkpoints: of the run.
        fault: what is lost: "worker", "server", "driver", "node" or the "cable" of one.
        round: after which it happens.
        delay_s: how far into the next round.
    """

    seed: int
    method: str
    downlink: str
    checkpoints: Any
    fault: str
    round: int
    delay_s: float


def trial_of(seed: int, faults: tuple[str, ...]) -> Trial:
    """Draw a trial; the faults and methods come in turn, the rest is random."""
    draws = random.Random(seed)
    names = list(METHODS)
    return Trial(
        seed=seed,
        fault=faults[seed % len(faults)],
        method=names[seed // len(faults) % len(names)],
        downlink=draws.choice(DOWNLINKS),
        checkpoints=draws.choice(CHECKPOINTS),
        round=draws.randrange(1, ROUNDS - 1),
        delay_s=draws.choice((0.0, draws.uniform(0, 0.02))),
    )


def run(
    trial: Trial,
    out: Path,
    on_node: Fault | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> str:
    """Run a trial, and return what went wrong; "" if nothing did.

    Args:
        trial: what to do.
        out: an unused directory.
        on_node: what happens to a node, where it is one that is lost, or its cable.
        on_note: called with what the session has to say.
    """
    nodes = on_node is not None and trial.fault in ("node", "cable")
    config = config_of(
        trial.method,
        downlink=trial.downlink,
        checkpoints=trial.checkpoints,
        placement="spread" if nodes else "pack",
    )
    expected = undisturbed(trial.method, trial.downlink)
    try:
        if trial.fault == "driver":
            ending = with_lost_driver(trial, config, out)
        else:
            fault = on_node if nodes else killed(_victim(trial))
            assert fault is not None
            disturb = Disturb({trial.round: fault}, trial.delay_s)
            with Session(config, out=out, callbacks=disturb, on_note=on_note) as session:
                session.run()
                ending = ending_of(session)
    except (MlmcRayError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    wrong = ending.difference(expected)
    return f"other {wrong}" if wrong else ""


def _victim(trial: Trial) -> str:
    return "server 0" if trial.fault == "server" else f"host {trial.seed % 2}"


class _Wait(Callback):
    """Slows a run down, so that it can be hit on its way."""

    def on_round(self, session: Any, metrics: Any, result: Any) -> None:
        time.sleep(0.05)


DRIVER = """
import json, sys
from launch import Session
from tests.chaos.trials import _Wait

config, out = json.loads(sys.argv[1]), sys.argv[2]
with Session(config, out=out, callbacks=_Wait()) as session:
    session.run()
"""


def with_lost_driver(trial: Trial, config: dict[str, Any], out: Path) -> Ending:
    """Run in another process, kill that, and go on from what it leaves."""
    address = ray.get_runtime_context().gcs_address
    config = {**config, "checkpoints": trial.checkpoints or {"every": 2}}
    theirs = {**config, "address": address}
    command = [sys.executable, "-c", DRIVER, json.dumps(theirs), str(out)]
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=pipe, text=True) as driver:
        _wait_for_round(driver, out / "metrics.jsonl", trial.round)
        time.sleep(trial.delay_s)
        driver.kill()
    if not list((out / "checkpoints").glob("round-*")):  # before the first: it is run again
        with Session({**config, "checkpoints": None}) as session:
            session.run()
            return ending_of(session)
    with Session.resume(out, ["address=null"]) as session:
        session.run()
        return ending_of(session)


def _wait_for_round(driver: "subprocess.Popen[str]", metrics: Path, rounds: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") > rounds:
            return
        if driver.poll() is not None:
            assert driver.stderr is not None
            raise RuntimeError(f"the driver has ended: {driver.stderr.read()[-2000:]}")
        time.sleep(0.02)
    driver.kill()
    raise RuntimeError("the driver did not come far enough within 120 s")


def actors_left() -> Iterator[str]:
    """Yield the command lines of processes of this project's actors that still run."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if re.match(r"ray::(WorkerHostActor|ParameterServerActor)", line):
            yield line
