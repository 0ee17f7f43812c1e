"""Runs in a lab: the rounds of a configuration, and what crossed every node meanwhile.

    python -m launch.wire.measuring PLAN FOUND

reads a ``WirePlan`` from one file and writes a ``Measured`` to the other, both JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.util import placement_group_table
from rich.console import Console

from launch.lab.plan import node_at
from launch.many.progress import RunsProgress
from launch.metrics import Metrics
from launch.plain_errors import plain_errors
from launch.session import Session
from launch.versions import versions
from launch.wire.accounting import Interval, traffic_of_nodes
from launch.wire.exchanges import hosts_of
from launch.wire.measured import Measured
from launch.wire.plan import WirePlan
from launch.wire.transport import on_links_of
from mlmc_ray.ledger import Ledger

_SETTLE_S = 0.5  # after the last call: acknowledgements, and news of objects that are freed


def measure(
    session: Session,
    plan: WirePlan,
    on_round: Callable[[], None] = lambda: None,
    on_phase: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Run rounds of a session in a lab and return what crossed every node.

    Args:
        session: on Ray, and the only one in the lab.
        plan: how many rounds.
        on_round: called after every round, those in which connections are opened too.
        on_phase: called with a line about what begins.

    Raises:
        RoundError: a round could not be completed.
    """
    on_phase(f"connections: {plan.warm_up} rounds to open them")
    _run(session, plan.warm_up, on_round)
    on_phase(f"idle: {plan.idle_s:g} s of what Ray sends while nothing runs")
    idle = Interval()
    time.sleep(plan.idle_s)
    idle.end()
    on_phase(f"rounds: {plan.rounds}, which are measured")
    first, began, busy = len(session.ledger), time.monotonic(), Interval()
    _run(session, plan.rounds, on_round)
    seconds = time.monotonic() - began
    time.sleep(_SETTLE_S)
    busy.end()
    ledger = Ledger(session.ledger[index] for index in range(first, len(session.ledger)))
    config, transport = session.config, on_links_of(plan.rate)
    described = config.to_mapping()
    return Measured(
        name=config.name,
        method=described["method"],
        downlink=described["downlink"],
        workers=config.workers,
        versions=versions(),
        rounds=plan.rounds,
        frames=len(ledger),
        seconds=seconds,
        rate=None if plan.rate is None else 8 * plan.rate,
        nodes=traffic_of_nodes(ledger, hosts_of(config), _places(), idle, busy, transport),
    )


def _run(session: Session, rounds: int, on_round: Callable[[], None]) -> None:
    """Run rounds without the evaluation after the last one, for which servers meet."""
    last = session.round_index + rounds

    def count(metrics: Metrics) -> None:
        on_round()
        if metrics["round"] == last:
            session.pause()

    session.run(rounds + 1, on_round=count)


def _places() -> list[int]:
    """Return the nodes on which the servers and then the hosts of the one session are."""
    known = ray.nodes()  # type: ignore[no-untyped-call]
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in known}
    (group,) = [row for row in placement_group_table().values() if row["state"] == "CREATED"]
    bundles = group["bundles_to_node_id"]
    return [node_at(addresses[bundles[index]]) for index in sorted(bundles)]


def main(plan_path: str, found_path: str) -> None:
    """Measure what the file says, and show how far it is."""
    plan = WirePlan(**json.loads(Path(plan_path).read_text(encoding="utf-8")))
    progress = RunsProgress(Console(stderr=True))
    progress.note("run: starting the actors on their nodes")
    with Session(plan.run(), on_note=progress.note) as session, progress:
        progress.begin(session.config.name, plan.warm_up + plan.rounds)
        found = measure(session, plan, lambda: progress.advance(1), progress.note)
    Path(found_path).write_text(json.dumps(found.to_mapping()), encoding="utf-8")


if __name__ == "__main__":
    with plain_errors(Console(stderr=True)):
        main(*sys.argv[1:])
