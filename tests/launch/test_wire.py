"""Interface bytes: which frames go together, what the model makes of them, and what is counted."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from launch import Session
from launch.cli import app
from launch.configuration.run_config import load_config
from launch.lab import outside
from launch.wire import RAY, Call, Measured, WirePlan, calls_of, estimated_interface_bytes
from launch.wire.accounting import accounts_of, calls_of_driver
from launch.wire.exchanges import hosts_of, ledgers_of_servers
from launch.wire.measured import Account, Flow, NodeTraffic
from launch.wire.report import in_words, node_table, total_table
from launch.wire.running import run_on_lab
from launch.wire.transport import CARRIED, HEADERS, BothWays, on_links_of
from mlmc_ray.errors import ClusterError, ConfigError
from mlmc_ray.ledger import Direction, Entry, Ledger
from mlmc_ray.rounds import INLINE_BYTES

REASON = outside.missing()
needs_lab = pytest.mark.skipif(REASON is not None, reason=f"NO LAB HERE: {REASON}")
CONFIG = {
    "name": "Small run",
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 500},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.03125},
    "workers": 2,
}
EXACT = replace(
    RAY,
    per_byte=2.0,
    per_worker=7.0,
    acknowledged=0.5,
    answer_acknowledged=0.25,
    call=BothWays(100.0, 10.0),
    stored_news=BothWays(1000.0, 2000.0),
    stored_answer=BothWays(3000.0, 4000.0),
)


def entry(round_index: int, worker_id: int, direction: Direction, size: int) -> Entry:
    return Entry(round_index, worker_id, direction, size, None)


def test_frames_that_cross_together_are_one_call() -> None:
    ledger = [
        *(entry(0, worker, "downlink", 50) for worker in range(3)),
        *(entry(0, worker, "uplink", 20 + worker) for worker in range(3)),
        entry(1, 0, "downlink", 60),
    ]
    assert list(calls_of(ledger, [(0, 2), (1,)])) == [
        Call(host=0, news=(50,), reports=(20, 22)),  # one broadcast for both workers
        Call(host=1, news=(50,), reports=(21,)),
        Call(host=0, news=(60,), reports=()),
    ]


def test_every_exchange_of_a_round_is_a_call() -> None:
    sizes = {"downlink": (50, 60), "uplink": (5, 6)}
    ledger = [entry(0, 0, way, size) for way, both in sizes.items() for size in both]  # type: ignore[arg-type]
    assert [(call.news, call.reports) for call in calls_of(ledger, [(0,)])] == [
        ((50,), (5,)),
        ((60,), (6,)),
    ]


def test_a_call_costs_its_frames_and_what_they_take() -> None:
    inline = EXACT.of(Call(host=0, news=(10, 20), reports=(4,)))
    assert inline == BothWays(100 + 2 * 30 + 0.5 * 4, 10 + 2 * 4 + 0.5 * 30)
    two = EXACT.of(Call(host=0, news=(30,), reports=(2, 2)))
    assert two == BothWays(inline.downlink, inline.uplink + 7)  # for the second worker


def test_more_than_a_packet_is_acknowledged_by_one_more() -> None:
    packet = EXACT.of(Call(host=0, news=(CARRIED,), reports=(0,)))
    assert packet.uplink == 10 + 0.5 * CARRIED
    more = EXACT.of(Call(host=0, news=(CARRIED + 2,), reports=(0,)))
    assert more.uplink == 10 + 0.5 * (CARRIED + 2) + HEADERS


def test_slow_links_acknowledge_more_often() -> None:
    call = Call(host=0, news=(10_000,), reports=(100,))
    slow, fast = on_links_of(12.5e6).of(call), on_links_of(125e6).of(call)
    assert slow.uplink > 1.1 * fast.uplink
    assert slow.downlink == pytest.approx(fast.downlink, rel=0.001)
    assert on_links_of(None) is RAY


def test_what_is_too_large_for_a_call_costs_a_trip_through_the_store() -> None:
    large = INLINE_BYTES + 1
    just = EXACT.of(Call(host=0, news=(INLINE_BYTES,), reports=(0,)))
    assert just == BothWays(100 + 2 * INLINE_BYTES, 10 + 0.5 * INLINE_BYTES + HEADERS)
    stored = EXACT.of(Call(host=0, news=(large, 10), reports=(large,)))
    down = 100 + 2 * (large + 10) + 0.25 * large + HEADERS + 2 * 1000 + 3000
    up = 10 + 2 * large + 0.5 * (large + 10) + HEADERS + 2 * 2000 + 4000
    assert stored == BothWays(down, up)


def test_estimates_of_rounds_add_up_to_that_of_the_run() -> None:
    ledger = Ledger(
        entry(index, worker, way, 1000 * (index + 1))
        for index in range(3)
        for worker in range(4)
        for way in ("downlink", "uplink")
    )
    hosts = [(0, 2), (1, 3)]
    whole = estimated_interface_bytes(ledger, hosts)
    rounds = [[e for e in ledger if e.round_index == index] for index in range(3)]
    parts = [estimated_interface_bytes(part, hosts) for part in rounds]
    assert whole.downlink == pytest.approx(sum(part.downlink for part in parts))
    assert whole.uplink > whole.downlink  # two reports of a host are two, and news are one


def test_an_inline_run_has_an_estimate() -> None:
    with Session({**CONFIG, "engine": "inline"}) as session:
        session.run(2)
        both = estimated_interface_bytes(session.ledger, [(0,), (1,)])
    frames = session.ledger.frame_bytes("downlink")
    assert 1.04 < both.downlink / frames < 2


@pytest.mark.parametrize("settings", [{"gradients_at_once": 2}, {"actors": 1}])
def test_inline_every_worker_counts_as_a_host(settings: dict[str, int]) -> None:
    config = {**CONFIG, "actors": None, "engine": "inline", **settings}
    assert hosts_of(load_config(config)) == [(worker_id,) for worker_id in range(2)]


def test_on_ray_hosts_are_those_of_the_run() -> None:
    config = {**CONFIG, "workers": 5, "gradients_at_once": 2, "engine": "ray"}
    assert hosts_of(load_config({**config, "actors": 2})) == [(0, 1, 4), (2, 3)]
    assert hosts_of(load_config({**config, "actors": None})) == [(0, 1), (2, 3), (4,)]


def example() -> Measured:
    ledger = Ledger(
        Entry(0, worker, way, 1000, paper)  # type: ignore[arg-type]
        for worker in range(2)
        for way, paper in (("downlink", 6400), ("uplink", 3200))
    )
    driver = Account(predicted=None)
    server, *hosts = accounts_of([ledger], [(0,), (1,)], RAY)
    roles = ("driver", "server", "host", "host")
    nodes = [
        NodeTraffic(
            node=node,
            role=role,  # type: ignore[arg-type]
            workers=(),
            interface=(account.predicted or calls_of_driver(ledger, RAY)) * 1.25,
            idle=Flow(received=100.0, sent=50.0),
            retransmitted=node,
            talk=Flow(received=0.0, sent=0.0),
            account=account,
        )
        for node, (role, account) in enumerate(zip(roles, (driver, server, *hosts), strict=True))
    ]
    return Measured(
        name="a",
        method={"kind": "sgd"},
        downlink={"kind": "full"},
        workers=2,
        versions={"ray": "1"},
        rounds=1,
        frames=4,
        seconds=2.0,
        rate=1e9,
        nodes=tuple(nodes),
    )


def test_totals_are_by_direction() -> None:
    totals = json.loads(json.dumps(example().to_mapping()))["totals"]
    assert [totals["uplink"][name] for name in ("frames", "once_a_host", "paper")] == [
        2000,
        2000,
        800,
    ]
    assert totals["downlink"]["interface"] == pytest.approx(1.25 * totals["downlink"]["predicted"])
    assert example().to_mapping()["nodes"][0]["account"]["predicted"] is None


def test_a_broadcast_counts_once_for_the_workers_of_a_host() -> None:
    ledger = Ledger(
        entry(0, worker, way, 50) for worker in range(3) for way in ("downlink", "uplink")
    )
    server, host, other = accounts_of([ledger], [(0, 2), (1,)], RAY)
    assert host.frames == Flow(received=100, sent=100)
    assert host.once_a_host == Flow(received=50, sent=100)
    assert server.once_a_host == (host + other).once_a_host.at_other_end


def test_every_server_has_its_part_of_the_ledger() -> None:
    sizes = (10, 11, 20, 21)  # two exchanges with each of two servers
    ledger = [entry(0, worker, "uplink", size) for size in sizes for worker in range(2)]
    parts = ledgers_of_servers(ledger, 2)
    assert [part.frame_bytes("uplink") for part in parts] == [42, 82]


def test_a_measurement_survives_json() -> None:
    found = example()
    assert Measured.from_mapping(json.loads(json.dumps(found.to_mapping()))) == found
    lacking = replace(found.nodes[2], account=replace(found.nodes[2].account, paper=None))
    found = replace(found, nodes=(*found.nodes[:2], lacking, found.nodes[3]))
    assert Measured.from_mapping(json.loads(json.dumps(found.to_mapping()))) == found
    assert found.account.paper is None


def test_the_columns_are_kept_apart() -> None:
    found = example()
    assert found.account.frames == Flow(received=2000, sent=2000)
    assert found.account.paper == Flow(received=1600.0, sent=800.0)
    assert found.arrived.received == pytest.approx(1.25 * found.expected.received)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(total_table(found))
    console.print(node_table(found))
    text = console.export_text()
    total = next(line for line in text.splitlines() if "to hosts" in line)
    assert total.split()[2:6] == ["1.6", "kB", "2", "kB"]
    assert text.count("-20.0%") == 3  # of what the server and the hosts receive


def test_words_say_how_far_the_model_is_off() -> None:
    words = " ".join(in_words(example()))
    assert "the model is off by -20.0%" in words
    assert "400 B a second" in words
    assert "6 TCP segments were sent again" in words


def test_an_account_without_a_formula_stays_without() -> None:
    both = Account(paper=None) + Account(paper=Flow(received=1, sent=1))
    assert both.paper is None
    assert Account(frames=Flow(received=1, sent=2)).at_other_end.frames == Flow(received=2, sent=1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def test_a_plan_that_cannot_be_measured_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match="rounds is 0: give at least 1"):
        WirePlan(config=str(config), rounds=0)
    with pytest.raises(ConfigError, match="--nodes is 3, and workers is 2"):
        WirePlan(config=str(config), hosts=3).run()


def test_a_method_that_needs_simulated_time_is_refused_at_once(config: Path) -> None:
    for given in ((), ("engine=inline", "clock={compute_s: 1}")):
        plan = WirePlan(config=str(config), overrides=("method=async-sgd", *given), hosts=2)
        with pytest.raises(ConfigError, match="those of async-sgd depend on who is fast"):
            plan.run()


def test_what_is_set_aside_is_said(config: Path) -> None:
    assert WirePlan(config=str(config)).notes() == []
    given = ("engine=inline", "clock={compute_s: 1}")
    (line,) = WirePlan(config=str(config), overrides=given).notes()
    assert line.endswith(": engine: inline, clock")


def test_without_a_lab_the_command_says_what_is_missing(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "missing", lambda: "a lab needs root")
    done = CliRunner().invoke(app, ["wire", str(config), "--nodes", "2"])
    assert done.exit_code == 1
    assert "error: a lab needs root" in done.output
    with pytest.raises(ClusterError):
        run_on_lab(WirePlan(config=str(config), hosts=2))


@pytest.mark.lab
@needs_lab
def test_what_crosses_is_what_the_model_says(config: Path) -> None:
    plan = WirePlan(config=str(config), hosts=2, rounds=20, warm_up=3, idle_s=1.5, rate=125e6)
    found = run_on_lab(plan)
    assert [node.role for node in found.nodes] == ["driver", "server", "host", "host"]
    assert sorted(node.node for node in found.nodes) == [0, 1, 2, 3]
    assert found.frames == 80
    assert found.arrived.both == pytest.approx(found.expected.both, rel=0.1)
