"""Nodes of a lab that are cut off: the run ends as if nothing had happened."""

import sys

import pytest

from tests.launch.lab.test_lab import needs_lab, run_lab

# The node of a worker, or of the server, is cut off in round 4; its cable is back 5 s later.
CUT = """
import json, sys, threading, time
import ray, torch
from launch import Session
from launch.lab.inside import node_address, num_nodes, plug_cable
from tests.chaos.faults import Disturb, actors_of
from tests.chaos.trials import config_of

method, victim = sys.argv[1:]
config = config_of(method, checkpoints={"every": 3}, placement="spread", placement_timeout_s=60)

def cut(session):
    place = actors_of(session)[victim].__ray_call__.remote(lambda _: ray.util.get_node_ip_address())
    address = ray.get(place)
    node = next(i for i in range(num_nodes()) if node_address(i) == address)
    def pull():
        plug_cable(node, plugged=False)
        threading.Timer(5, lambda: plug_cable(node, plugged=True)).start()
    return pull

with Session({**config, "engine": "inline", "checkpoints": None}) as whole:
    whole.run()
    expected = whole.parameters()
notes, started = [], time.monotonic()
disturb = Disturb({4: cut})
with Session(config, out="/dev/shm/run", callbacks=disturb, on_note=notes.append) as session:
    session.run()
    same = torch.equal(session.parameters(), expected)
    same = same and session.ledger == whole.ledger
print(json.dumps({"same": same, "notes": notes, "seconds": time.monotonic() - started}))
"""


@pytest.mark.lab
@needs_lab
@pytest.mark.parametrize(
    ("method", "victim"),
    [
        ("MLMC", "host 0"),
        pytest.param("EF21-SGDM", "host 1", marks=pytest.mark.slow),
        pytest.param("SGD", "server 0", marks=pytest.mark.slow),
    ],
)
def test_a_run_survives_a_cable_that_is_pulled(method: str, victim: str) -> None:
    options = ("--nodes", 5, "--cpus-per-node", 1)
    done = run_lab(*options, "--", sys.executable, "-c", CUT, method, victim, timeout=180)
    assert done.returncode == 0, done.stderr
    assert '"same": true' in done.stdout, done.stdout
