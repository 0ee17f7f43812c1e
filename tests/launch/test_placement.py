"""What actors reserve of a cluster: processors, GPUs in Ray's books, and nodes yet to join."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from launch.configuration.run_config import RunConfig, load_config
from launch.engines.placement import Demand, Node, demand_of, hosts_on
from launch.engines.ray_engine import RayEngine
from mlmc_ray.errors import ClusterError
from tests.launch.same_runs import config_of
from workers.actor import RemoteWorkerHost

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


def run_of(**changes: Any) -> RunConfig:
    actors = changes.pop("actors", None)
    return load_config(config_of("sgd", actors, **changes))


@pytest.mark.parametrize(
    ("num_gpus", "each", "room"),
    [(2, 1, 2), (2, 0.5, 4), (2, 0.4, 4), (3, 2, 1), (1, 2, 0), (0, 0.5, 0), (4, 0.1, 40)],
)
def test_parts_of_two_gpus_make_no_room(num_gpus: int, each: float, room: int) -> None:
    assert hosts_on(num_gpus, each) == room


@pytest.mark.parametrize(
    ("settings", "hosts", "gpus"),
    [
        ({}, 4, 0),
        ({"device": "cuda"}, 2, 1),  # the cluster has two
        ({"device": "cuda", "gpus_per_actor": 0.5}, 4, 0.5),
        ({"device": "cuda", "gpus_per_actor": 0.25, "workers": 32}, 8, 0.25),
        ({"device": "cuda", "gpus_per_actor": 0.1, "workers": 32}, 9, 0.1),  # and ten processors
        ({"device": "cuda", "gpus_per_actor": 4}, 1, 4),
        ({"device": "cuda", "actors": 3}, 3, 1),
        ({"workers": 32}, 9, 0),
    ],
)
def test_by_default_there_are_as_many_actors_as_fit(
    settings: dict[str, Any], hosts: int, gpus: float
) -> None:
    demand = demand_of(run_of(**settings), local=False)
    assert demand == Demand(num_servers=1, num_hosts=hosts, processors=1.0, gpus=gpus)


TWO = [(2, 3), (2, 3), (4, 0)]  # processors and GPUs of every node


@pytest.mark.parametrize(
    ("nodes", "settings", "hosts"),
    [
        (TWO, {"gpus_per_actor": 2, "workers": 9}, 2),  # three pairs, of which one is of two nodes
        (TWO, {"gpus_per_actor": 0.5, "workers": 9}, 4),  # as many as there are processors
        (TWO[:2], {"gpus_per_actor": 0.5, "workers": 9}, 3),  # of which the server takes one
        (TWO[1:], {"device": "cpu", "workers": 9}, 5),
        ([(0, 0)], {}, 1),
        ([], {}, 1),
    ],
)
def test_by_default_actors_fit_their_nodes(
    nodes: list[tuple[int, int]],
    settings: dict[str, Any],
    hosts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = [Node(processors=processors, gpus=gpus) for processors, gpus in nodes]
    monkeypatch.setattr("launch.engines.placement.nodes_of_cluster", lambda: there)
    demand = demand_of(run_of(**{"device": "cuda", **settings}), local=False)
    assert demand.num_hosts == hosts
    fits = demand.shortage(there) is None
    assert fits == (sum(processors for processors, _ in nodes) > 1)


@pytest.mark.parametrize(
    ("gpus", "hosts", "shortage", "waiting"),
    [
        (
            4,
            1,
            "gpus_per_actor is 4: no node of the Ray cluster has 4 GPUs, and the most is 3: lower "
            "gpus_per_actor, or give device: cpu",
            "room for 1 more actor: each takes a processor and 4 GPUs of one node, and the Ray "
            "cluster has 8 processors and 6 GPUs",
        ),
        (
            2,
            3,
            "actors is 3: each reserves gpus_per_actor = 2, and the Ray cluster has 6 GPUs, room "
            "for 2: lower actors or gpus_per_actor, or give device: cpu",
            "room for 1 more actor: each takes a processor and 2 GPUs of one node, and the Ray "
            "cluster has 8 processors and 6 GPUs",
        ),
        (
            0.5,
            7,
            "actors is 7: each reserves a processor of a node with GPUs, and with those of the Ray "
            "cluster there is room for 4: lower actors, or give device: cpu",
            "room for 3 more actors: each takes a processor and 0.5 GPU of one node, and the Ray "
            "cluster has 8 processors and 6 GPUs",
        ),
    ],
)
def test_what_no_node_has_is_said(gpus: float, hosts: int, shortage: str, waiting: str) -> None:
    nodes = [Node(processors=processors, gpus=each) for processors, each in TWO]
    demand = Demand(num_servers=1, num_hosts=hosts, processors=1.0, gpus=gpus)
    assert demand.shortage(nodes) == shortage
    assert demand.waiting_for(nodes) == waiting


def test_a_cluster_without_gpus_says_so() -> None:
    demand = Demand(num_servers=1, num_hosts=2, processors=1.0, gpus=1.0)
    assert demand.shortage([Node(processors=8, gpus=0)]) == (
        "gpus_per_actor is 1: no node of the Ray cluster has a GPU: give device: cpu"
    )


def test_hosts_reserve_gpus_and_the_server_does_not() -> None:
    demand = Demand(num_servers=1, num_hosts=2, processors=1.0, gpus=0.5)
    assert demand.bundles() == [{"CPU": 1.0}, *[{"CPU": 1.0, "GPU": 0.5}] * 2]
    plain = Demand(num_servers=1, num_hosts=2, processors=1.0, gpus=0.0)
    assert plain.bundles() == [{"CPU": 1.0}] * 3


@pytest.mark.parametrize("gpus", [0.0, 0.5])
def test_a_host_takes_its_part_of_the_reservation(
    gpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Actor:
        """Stands in for the class of actors, and for an actor."""

        def options(self, **options: Any) -> "Actor":
            asked.update(options)
            return self

        def remote(self) -> "Actor":
            return self

    monkeypatch.setattr("workers.actor._Actor", Actor())
    demand = Demand(num_servers=1, num_hosts=1, processors=1.0, gpus=gpus)
    group: Any = SimpleNamespace(bundle_specs=demand.bundles())
    RemoteWorkerHost([0], group, bundle_index=1, num_servers=1)
    assert asked["num_cpus"] == 1.0
    assert asked["num_gpus"] == (gpus or None)
    assert asked["scheduling_strategy"].placement_group_bundle_index == 1


def test_too_few_gpus_are_refused_with_numbers() -> None:
    notes: list[str] = []
    started = time.monotonic()
    with pytest.raises(ClusterError) as caught:
        RayEngine(run_of(device="cuda", actors=3, placement_timeout_s=1), notes.append)
    assert time.monotonic() - started < 30
    assert str(caught.value) == (
        "actors is 3: each reserves gpus_per_actor = 1, and the Ray cluster has 2 GPUs, room for "
        "2: lower actors or gpus_per_actor, or give device: cpu"
    )
    assert notes == [
        "waits up to placement_timeout_s = 1 for room for 1 more actor: each takes a processor and "
        "1 GPU of one node, and the Ray cluster has 10 processors and 2 GPUs"
    ]


def test_too_few_processors_are_waited_for() -> None:
    notes: list[str] = []
    settings = {"actors": 12, "workers": 12, "placement_timeout_s": 1}
    with pytest.raises(ClusterError, match=r"takes 13 processors, and the Ray cluster has 10"):
        RayEngine(run_of(**settings), notes.append)
    assert notes == [
        "waits up to placement_timeout_s = 1 for room for 3 more actors: each takes a processor, "
        "and the Ray cluster has 10 processors"
    ]


def test_what_others_hold_is_said_and_waited_for() -> None:
    held = placement_group([{"GPU": 2}])
    assert held.wait(30)
    notes: list[str] = []
    config = run_of(device="cuda", actors=2, placement_timeout_s=1.5)
    started = time.monotonic()
    try:
        with pytest.raises(ClusterError, match=r" GPUs 0; lower actors$"):
            RayEngine(config, notes.append)
    finally:
        remove_placement_group(held)
    assert 1.5 <= time.monotonic() - started < 10
    (note,) = notes
    assert note.startswith("waits up to placement_timeout_s = 1.5 for what others hold: of 10 ")
    assert note.endswith(" are free, and of 2 GPUs 0")


def test_ctrl_c_ends_the_waiting() -> None:
    ended = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # unheard in the background

    def press() -> None:
        while not ended.wait(2):  # again, since one that arrives inside of Ray's code may be lost
            _thread.interrupt_main()

    pressing = threading.Thread(target=press)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            RayEngine(
                run_of(actors=12, workers=12, placement_timeout_s=20), lambda _: pressing.start()
            )
    finally:
        ended.set()
        pressing.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 10
    groups = placement_group_table().values()
    assert {group["state"] for group in groups} <= {"REMOVED"}


def test_a_cluster_of_ones_own_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("Ray was asked")

    monkeypatch.setattr("launch.engines.placement.placement_group", fail)
    monkeypatch.setattr("launch.engines.ray_engine.ray_cluster", Local)
    with pytest.raises(ClusterError, match=r"^actors is 3: each reserves gpus_per_actor = 1, and"):
        RayEngine(run_of(device="cuda", actors=3))


class Local:
    """Says that the cluster was started here."""

    def __init__(self, address: str | None) -> None:
        """Nothing is joined."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""


@NO_GPU
@pytest.mark.slow
def test_a_host_without_a_gpu_says_so_and_gives_its_reservation_back() -> None:
    expected = r"^device is cuda, and torch finds no GPU for workers \[0, 2\] on .*: torch .*cpu$"
    with pytest.raises(ClusterError, match=expected):
        RayEngine(run_of(device="cuda", actors=2))
    deadline = time.monotonic() + 30
    while ray.available_resources().get("GPU") != 2:  # type: ignore[no-untyped-call]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_other_reservations_need_other_actors() -> None:
    cpu = run_of(actors=2)
    cuda, half = (run_of(device="cuda", actors=2, gpus_per_actor=each) for each in (1, 0.5))
    engine = RayEngine(cpu)
    try:
        assert engine.suits(cpu, run_of(actors=2, batch_size=6))
        assert not engine.suits(cpu, cuda)
        engine._demand = demand_of(cuda, local=engine._local)
        assert not engine.suits(cuda, cpu)
        assert not engine.suits(cuda, half)
        assert engine.suits(cuda, run_of(device="cuda", actors=2))  # 1 is the default
    finally:
        engine.close()


@GPU
def test_gpus_give_what_the_cpu_gives() -> None:
    from launch import Session

    ends = []
    for device in ("cpu", "cuda"):
        settings = {"engine": "inline", "device": device, "problem": "digits", "rounds": 5}
        with Session(config_of("sgd", 1, **settings)) as session:
            session.run()
            ends.append(session.parameters())
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-3)


GROWING = """
from ray.cluster_utils import Cluster
from launch.configuration.run_config import load_config
from launch.engines.ray_engine import RayEngine

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})

def grow(note):
    print(note)
    cluster.add_node(num_cpus=1)

config = load_config({
    "problem": {"kind": "quadratic", "dim": 4}, "method": "sgd", "address": cluster.address,
    "optimizer": {"kind": "sgd", "step_size": 0.1}, "actors": 1, "placement_timeout_s": 100,
})
engine = RayEngine(config, grow)
print(len(engine.round(observe=False).ledger), "frames")
engine.close()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_that_grows_starts_to_run(tmp_path: Path) -> None:
    script = tmp_path / "growing.py"
    script.write_text(GROWING)
    ended = subprocess.run(
        [sys.executable, str(script)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": ".", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.splitlines() == [
        "waits up to placement_timeout_s = 100 for room for 1 more actor: each takes a processor, "
        "and the Ray cluster has 1 processor",
        "8 frames",
    ]
