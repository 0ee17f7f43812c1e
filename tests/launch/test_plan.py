"""Planning: rounds elsewhere, from a run here."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from launch import Session
from launch.commands.plan import plan
from launch.planning import (
    Cluster,
    Links,
    Measured,
    Prediction,
    measure,
    parse_rate,
    parse_seconds,
    predict,
)
from launch.planning.measured import BY_ASKED, BY_WORKERS, OWN_NEWS
from launch.wire.transport import RAY, RAY_ON_SLOW_LINKS
from mlmc_ray.errors import ConfigError
from server.server import ParameterServer
from tests.launch.same_runs import config_of
from tests.launch.test_ray_methods import METHODS

WIRE = 1514 / 1448
CALL_DOWN, CALL_UP = RAY.call
STORED_NEWS, STORED_ANSWER = RAY.stored_news.downlink, RAY.stored_answer.uplink
SLOW = Links(up=12.5e6, down=12.5e6)
FAST = Links(up=125e6, down=125e6)
NEWS, REPORT = 1_000_000, 1_000
NEWS_BYTES = CALL_DOWN + STORED_NEWS + NEWS * WIRE
REPORT_BYTES = CALL_UP + REPORT * WIRE
ROUNDS = 20
SGD: Mapping[str, Any] = {"kind": "sgd"}


def write_run(
    path: Path,
    *,
    news: int = NEWS,
    report: int = REPORT,
    method: Mapping[str, Any] = SGD,
    asked: int = 4,
    exchanges: int = 1,
    engine: str = "ray",
    workers: int = 4,
    calls_s: float | None = None,
    address: str | None = None,
    hosts: int = 2,
    **settings: Any,
) -> Path:
    """Write a run of workers with 10 ms each on two hosts or as many as given, or inline on one.

    The server takes 5 ms a round, and calls of Ray 11.5 ms an exchange, 1.5 ms of them for the
    second host.
    """
    path.mkdir()
    hosts = 1 if engine == "inline" else hosts
    if calls_s is None:
        calls_s = 0.0 if engine == "inline" else 0.0115
    config = {
        "name": "mine",
        "workers": workers,
        "engine": engine,
        "address": address,
        "rounds": ROUNDS,
        "method": method,
        **settings,
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    seconds = exchanges * (-(-asked // hosts) * 0.01 + calls_s) + 0.005
    with (path / "metrics.jsonl").open("w") as metrics:
        for done in range(ROUNDS + 1):
            line = {"round": done, "seconds": done * seconds, "uplink_bytes": 0}
            metrics.write(json.dumps({**line, "test_accuracy": done / ROUNDS}) + "\n")
    with (path / "ledger.csv").open("w") as ledger, (path / "timeline.csv").open("w") as timeline:
        frames, work = csv.writer(ledger), csv.writer(timeline)
        frames.writerow(["round_index", "worker_id", "direction", "frame_bytes", "paper_bits"])
        work.writerow(["round_index", "exchange_index", "worker_id", "host", "seconds"])
        for place in range(ROUNDS * exchanges):
            for worker in range(asked):
                frames.writerow([place // exchanges, worker, "downlink", news, ""])
                frames.writerow([place // exchanges, worker, "uplink", report, ""])
                work.writerow([*divmod(place, exchanges), worker, worker % hosts, 0.01])
    return path


def predicted(measured: Measured, workers: int, nodes: int, links: Links = SLOW) -> Prediction:
    return predict(measured, Cluster(workers=workers, nodes=nodes), links)


def run_plan(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(plan)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_round_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    found = predicted(measure(write_run(tmp_path / "run")), 4, 2)
    assert found.compute_s == pytest.approx(0.02)  # two workers, one after the other
    assert found.down_s == pytest.approx(2 * NEWS_BYTES / 12.5e6)  # once a node
    # two reports in every answer, of which each but the first takes 33 bytes more
    assert found.up_s == pytest.approx(2 * (CALL_UP + 2 * REPORT * WIRE + 33) / 12.5e6)
    assert found.server_s == pytest.approx(0.005)
    assert found.calls_s == pytest.approx(0.015)  # calls, and a fetch of the news
    assert found.bottleneck == "server's link out"
    parts = (found.compute_s, found.down_s, found.up_s, found.server_s, found.calls_s)
    assert found.seconds == pytest.approx(sum(parts))
    assert found.wire_bytes == pytest.approx((2 * NEWS + 4 * REPORT) * WIRE, rel=0.03)


def test_each_link_can_hold_a_round_up(tmp_path: Path) -> None:
    small = measure(write_run(tmp_path / "small"))
    large = measure(write_run(tmp_path / "large", report=NEWS))
    fast = {"up": 1e12, "down": 1e12, "server_up": 1e12, "server_down": 1e12}
    for measured, slow, name, frames in (
        (small, "server_up", "server's link out", 2),
        (small, "down", "a node's link in", 1),
        (large, "server_down", "server's link in", 4),
        (large, "up", "a node's link out", 2),
    ):
        found = predicted(measured, 4, 2, Links(**fast | {slow: 1e6}))
        assert found.bottleneck == name
        assert found.down_s + found.up_s == pytest.approx(frames * WIRE, rel=4e-3)
    assert predicted(small, 4, 2, Links(up=1e12, down=1e12)).bottleneck == "computing"


def test_more_workers_mean_more_of_everything(tmp_path: Path) -> None:
    measured = measure(write_run(tmp_path / "run"))
    few, many = predicted(measured, 4, 4), predicted(measured, 16, 8)
    assert few.compute_s == pytest.approx(0.01)
    assert many.compute_s == pytest.approx(0.02)
    assert many.down_s == pytest.approx(2 * few.down_s)
    assert few.up_s == pytest.approx(4 * REPORT_BYTES / 12.5e6)
    assert many.up_s == pytest.approx(8 * (CALL_UP + 2 * REPORT * WIRE + 33) / 12.5e6)
    assert many.server_s == pytest.approx(4 * few.server_s)
    side_by_side = predict(measured, Cluster(workers=16, nodes=8, processes=2), SLOW)
    assert side_by_side.compute_s == pytest.approx(0.01)
    more_calls = 8 * CALL_DOWN / 12.5e6  # of the second process of every node
    assert side_by_side.down_s == pytest.approx(many.down_s + more_calls)


def test_exchanges_and_those_asked_are_counted(tmp_path: Path) -> None:
    once = predicted(measure(write_run(tmp_path / "once", exchanges=1)), 4, 2)
    twice = predicted(measure(write_run(tmp_path / "twice", exchanges=2)), 4, 2)
    for part in ("compute_s", "down_s", "up_s", "calls_s"):
        assert getattr(twice, part) == pytest.approx(2 * getattr(once, part))
    assert twice.wire_bytes == pytest.approx(2 * once.wire_bytes - sum(RAY.driver_call))
    assert twice.server_s == pytest.approx(once.server_s)
    some = measure(write_run(tmp_path / "some", asked=2, exchanges=2))
    assert predicted(some, 4, 2).compute_s == pytest.approx(2 * 0.01)  # one of two on a node
    for nodes in (4, 8):
        found = predicted(some, nodes, nodes)
        assert found.down_s == pytest.approx(2 * 2 * NEWS_BYTES / 12.5e6)
        assert found.up_s == pytest.approx(2 * 2 * REPORT_BYTES / 12.5e6)
        held_up = predicted(some, nodes, nodes, Links(up=1e9, down=1e6))  # a node that is asked
        assert held_up.down_s == pytest.approx(2 * NEWS_BYTES / 1e6)


def test_news_of_ones_own_cross_once_a_worker(tmp_path: Path) -> None:
    method = {"kind": "marina-p", "downlink": {"kind": "rand-k"}}
    found = predicted(measure(write_run(tmp_path / "run", method=method)), 4, 2)
    each = CALL_DOWN + 2 * (NEWS * WIRE + STORED_NEWS)
    assert found.down_s == pytest.approx(2 * each / 12.5e6)


@pytest.mark.parametrize(
    ("news", "report", "down", "up"),  # a round, as counted on the interfaces of four hosts
    [
        (260, 258, 923, 720),
        (10_021, 144, 11_146, 671),
        (48_021, 48_019, 51_007, 50_742),
        (100_023, 1_111, 105_254, 1_794),
        (120_023, 120_021, 131_193, 130_144),
        (400_023, 4_218, 422_422, 7_990),
    ],
)
def test_bytes_are_those_that_were_counted(
    tmp_path: Path, news: int, report: int, down: int, up: int
) -> None:
    measured = measure(write_run(tmp_path / "run", news=news, report=report, engine="inline"))
    drivers_answer = (
        RAY.driver_call.uplink + 8 * RAY.driver_frame
    )  # its call is in what the server received
    found = predicted(measured, 4, 4, FAST).wire_bytes - drivers_answer
    assert found == pytest.approx(4 * (down + up), rel=0.015)


def test_slow_links_acknowledge_more(tmp_path: Path) -> None:
    measured = measure(write_run(tmp_path / "run"))
    more = 4 * (RAY_ON_SLOW_LINKS.acknowledged - RAY.acknowledged) * (NEWS + REPORT)
    usual = predicted(measured, 4, 4, FAST).wire_bytes
    for slow in (SLOW, Links(up=125e6, down=125e6, server_down=12.5e6)):
        assert predicted(measured, 4, 4, slow).wire_bytes == pytest.approx(usual + more)


def test_workers_that_compute_together_stay_in_one_process(tmp_path: Path) -> None:
    cluster = Cluster(workers=7, nodes=3, at_once=2)
    assert cluster.hosted == [[0, 1, 6], [2, 3], [4, 5]]
    assert Cluster(workers=8, nodes=4, processes=2, at_once=4).hosts == 2
    apart, together = (
        measure(write_run(tmp_path / str(at_once), gradients_at_once=at_once)) for at_once in (1, 4)
    )
    assert (apart.at_once, together.at_once) == (1, 4)
    result = run_plan(tmp_path / "4", "--workers", "8", "--nodes", "4", "--json")
    (row,) = json.loads(result.stdout)["plan"]
    assert row["compute_s"] == pytest.approx(0.04)


def test_small_news_go_with_the_call_of_every_process(tmp_path: Path) -> None:
    small = measure(write_run(tmp_path / "run", news=100 * 1024))
    each = CALL_DOWN + 100 * 1024 * WIRE
    for processes in (1, 2):
        found = predict(small, Cluster(workers=4, nodes=2, processes=processes), SLOW)
        assert found.down_s == pytest.approx(2 * processes * each / 12.5e6)
        assert found.calls_s == pytest.approx(0.010)  # nothing is fetched
    large = measure(write_run(tmp_path / "large", news=100 * 1024 + 1))
    assert predicted(large, 4, 2).calls_s == pytest.approx(0.015)


def test_processes_of_a_node_share_what_is_stored_if_several_are_asked(tmp_path: Path) -> None:
    some = measure(write_run(tmp_path / "some", asked=2))
    for nodes, copies in ((1, 1), (2, 2), (4, 2)):
        found = predict(some, Cluster(workers=4, nodes=nodes, processes=4 // nodes), SLOW)
        stored = copies * (NEWS * WIRE + STORED_NEWS)
        gets_most = stored + 2 * CALL_DOWN if nodes < 4 else 2 * NEWS_BYTES
        assert found.down_s == pytest.approx(gets_most / 12.5e6)


def test_latency_counts_round_trips(tmp_path: Path) -> None:
    measured = measure(write_run(tmp_path / "run"))
    slow = predicted(measured, 4, 2, Links(up=12.5e6, down=12.5e6, latency_s=0.05))
    # 5 of the calls and the fetch; 14, 29, 58, 116, 232, 463 kB: 6 until the window holds 0.1 s of
    # half a link
    assert slow.calls_s == pytest.approx(0.015 + (5 + 6) * 0.1)
    fetched = measure(write_run(tmp_path / "fetched", report=60_000))
    near = predicted(fetched, 4, 2)
    answer = CALL_UP + 2 * 60_000 * WIRE + 33 + STORED_ANSWER
    assert near.up_s == pytest.approx(2 * answer / 12.5e6)
    assert near.calls_s == pytest.approx(0.020)  # 120 kB of answers go through the store
    assert predicted(fetched, 4, 4).calls_s == pytest.approx(0.015)
    with_the_call = measure(write_run(tmp_path / "small", news=REPORT))
    trips = predicted(with_the_call, 4, 2, Links(up=12.5e6, down=12.5e6, latency_s=0.05))
    assert trips.calls_s == pytest.approx(0.010 + 2 * 0.1)


def test_frames_that_depend_on_the_number_of_workers_are_refused(tmp_path: Path) -> None:
    method = {"kind": "compressed-sgd", "compressor": {"kind": "perm-k"}}
    measured = measure(write_run(tmp_path / "run", method=method))
    assert predicted(measured, 4, 2).seconds > 0
    words = r"--workers 8: with perm-k the length of frames depends on the number of workers, .* 4:"
    with pytest.raises(ConfigError, match=words):
        predicted(measured, 8, 2)


@pytest.mark.parametrize("downlink", ["relay", {"kind": "relay"}])
def test_relayed_frames_are_for_the_number_of_workers_of_the_run(
    tmp_path: Path, downlink: Any
) -> None:
    path = write_run(tmp_path / "run", news=REPORT, downlink=downlink)
    assert predicted(measure(path), 4, 2).seconds > 0
    result = run_plan(path, "--workers", "4,8")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "--workers 8: with relay the length of frames depends on the number of workers" in said
    assert "'mine' had 4: train it with 8" in said


def test_a_run_with_several_servers_is_refused(tmp_path: Path) -> None:
    assert measure(write_run(tmp_path / "one", servers=1)).workers == 4
    path = write_run(tmp_path / "several", servers=2)
    result = run_plan(path)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "servers is 2, and the model has one server" in said
    assert "plan from a run with servers: 1" in said


def frames_of(kind: str, workers: int, **settings: Any) -> tuple[bool, int, int]:
    """Return whether news differ by worker in a round, and the shortest and longest report."""
    method = {"kind": kind, **METHODS[kind], **settings}
    if "compute_s" in method:
        method["compute_s"] = [1] * workers
    changes = {"workers": workers, "batch_size": 1, "rounds": 6, "engine": "inline"}
    problem = {"kind": "tests.tasks.Regression"}  # without statistics, of which some lack more
    own = False
    with pytest.MonkeyPatch.context() as patch:
        broadcast = ParameterServer.broadcast

        def watch(server: ParameterServer) -> dict[int, bytes]:
            nonlocal own
            frames = broadcast(server)
            own = own or len({id(frame) for frame in frames.values()}) > 1
            return frames

        patch.setattr(ParameterServer, "broadcast", watch)
        with Session(config_of(method, 2, problem=problem, **changes)) as session:
            session.run()
    sizes = [entry.frame_bytes for entry in session.ledger if entry.direction == "uplink"]
    return own, min(sizes), max(sizes)


@pytest.mark.parametrize("kind", METHODS)
def test_kinds_are_listed_by_what_their_frames_depend_on(kind: str) -> None:
    own, *few = frames_of(kind, 4)
    assert own is (kind in OWN_NEWS)
    _, *many = frames_of(kind, 8)
    depends = max(abs(a - b) for a, b in zip(few, many, strict=True)) > 4
    assert depends is any(name in BY_WORKERS for name in (kind, METHODS[kind].get("compressor")))


def test_reports_of_tamuna_depend_on_how_many_it_asks(tmp_path: Path) -> None:
    few, many = (frames_of("tamuna", workers, participants=workers) for workers in (4, 8))
    assert few[2] > many[2] + 4
    method = {"kind": "tamuna", "participants": 4}
    assert measure(write_run(tmp_path / "all", method=method)).by_workers == list(BY_ASKED)
    assert not measure(write_run(tmp_path / "some", method=method, asked=2)).by_workers


def test_asynchronous_runs_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", method={"kind": "async-sgd"})
    with pytest.raises(ConfigError, match="async-sgd, whose server waits for nobody"):
        measure(path)


@pytest.mark.parametrize("workers", [4, 8])
def test_runs_of_both_engines_agree_for_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    inline, ray = (
        measure(write_run(tmp_path / engine, engine=engine, workers=workers, asked=workers))
        for engine in ("inline", "ray")
    )
    assert ray.server_s == pytest.approx(inline.server_s)
    for number in (4, 8, 16, 32, 64):
        one, other = (predicted(measured, number, min(number, 8)) for measured in (inline, ray))
        assert other.seconds == pytest.approx(one.seconds, rel=0.2)
        assert other.calls_s == pytest.approx(one.calls_s)


def test_calls_faster_than_usual_leave_no_time_below_zero(tmp_path: Path) -> None:
    measured = measure(write_run(tmp_path / "run", calls_s=0.002))
    assert measured.server_s == 0
    assert predicted(measured, 64, 4).server_s == 0


@pytest.mark.parametrize("address", ["auto", "ray://head:10001"])
def test_hosts_with_machines_of_their_own_take_no_more_calls(tmp_path: Path, address: str) -> None:
    given: dict[str, Any] = {"hosts": 32, "workers": 32, "asked": 32, "calls_s": 0.010 + 0.040}
    found = measure(write_run(tmp_path / "cluster", address=address, **given))
    assert found.server_s == pytest.approx(0.005 + 0.040)
    for near in (None, "local"):  # where 31 more hosts take 46 ms of calls
        found = measure(write_run(tmp_path / str(near), address=near, **given))
        assert found.server_s == 0


def test_rounds_that_were_interrupted_do_not_count_for_the_server(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["seconds"] += (line["round"] // 2) * 0.1  # every second round 0.1 s more
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert measure(path).server_s == pytest.approx(0.005)


@pytest.mark.parametrize(("engine", "turns"), [("ray", 1), ("inline", 4)])
def test_without_a_timeline_rounds_count_as_work(tmp_path: Path, engine: str, turns: int) -> None:
    path = write_run(tmp_path / "run", engine=engine)
    (path / "timeline.csv").unlink()
    measured = measure(path)
    work = 0.0265 if engine == "ray" else 0.045  # without 10 ms of calls
    assert measured.worker_s == pytest.approx([work / turns] * 4)
    assert measured.server_s == 0
    assert measured.notes[0].startswith("no timeline.csv")


def test_a_directory_without_rounds_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no round is done"):
        measure(path)
    (write_run(tmp_path / "other") / "ledger.csv").unlink()
    with pytest.raises(ConfigError, match=r"ledger\.csv has not both directions"):
        measure(tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("100Mbit", 12.5e6),
        ("1Gbit/s", 125e6),
        ("1 Gbps", 125e6),
        ("12.5MB/s", 12.5e6),
        ("100mbit", 12.5e6),
        ("8Mb/s", 1e6),
        (".5kB/s", 500),
    ],
)
def test_rates(text: str, bytes_per_s: float) -> None:
    assert parse_rate(text) == bytes_per_s


@pytest.mark.parametrize("text", ["100", "0Mbit", "fast", "-1Mbit", "10MB", "1Xbit", ""])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^'{text}' is no rate of a link.*: .*100Mbit"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("100MBit", "100Mbit"),
        ("100mbits", "100Mbit"),
        ("100M", "100Mbit"),
        ("100Mib/s", "100Mbit"),
        ("10MB", "10MB/s"),
        ("10MBps", "10MB/s"),
        ("10 megabytes", None),
        ("10Mbytes", "10MB/s"),
        ("10Kb", "10kbit"),
        ("100", None),
        ("0MBit", None),
    ],
)
def test_what_was_meant_by_no_rate_is_said(text: str, meant: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        parse_rate(text, "--up")
    hint = f" (did you mean {meant}?)" if meant else ""
    assert str(error.value).startswith(f"--up {text} is no rate of a link{hint}: give")
    if meant:
        assert parse_rate(meant) > 0


@pytest.mark.parametrize(("text", "meant"), [("5", "5ms"), ("5MS", "5ms"), ("5 msec", "5ms")])
def test_what_was_meant_by_no_duration_is_said(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--latency {text} .*did you mean {meant}\?"):
        parse_seconds(text, "--latency")


def test_durations() -> None:
    found = [parse_seconds(text) for text in ("5ms", "200us", "0.1s", "0")]
    assert found == pytest.approx([0.005, 200e-6, 0.1, 0])
    with pytest.raises(ConfigError, match="'5' is no duration"):
        parse_seconds("5")


def test_the_command_prints_the_plan_and_its_assumptions(tmp_path: Path) -> None:
    path, figure = write_run(tmp_path / "run"), tmp_path / "plan.png"
    slow = ("--up", "100Mbit", "--down", "100Mbit")
    result = run_plan(
        *(path, "--workers", "4,8", "--nodes", "2", *slow, "--target", "accuracy=0.5"),
        *("--price-per-gb", "0.09", "--png", figure),
    )
    assert result.exit_code == 0, result.output
    assert "server's link out" in result.output
    assert "?: accuracy=0.5 was not reached with so many workers" in result.output
    assert "assumed:" in result.output
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_json_says_rounds_time_and_cost_to_the_target(tmp_path: Path) -> None:
    scaled = tmp_path / "results.json"
    results = {
        "8": {"workers": 8, "rounds": 7, "reached": True},
        "16": {"workers": 16, "rounds": 20, "reached": False},
    }
    scaled.write_text(json.dumps({"plan": {"target": "accuracy >= 0.5"}, "results": results}))
    result = run_plan(
        *(write_run(tmp_path / "run"), "--workers", "4,8,16", "--target", "accuracy=0.5"),
        *("--scale", scaled, "--price-per-gb", "0.09", "--price-per-gb-in", "0.01", "--json"),
    )
    assert result.exit_code == 0, result.output
    here, eight, sixteen = json.loads(result.stdout)["plan"]
    assert (here["nodes"], here["rounds_to_target"]) == (4, 10)
    assert here["target_s"] == pytest.approx(10 * here["round_s"])
    assert here["cost"] == pytest.approx(10 * here["wire_bytes"] * 0.1 / 1e9)
    assert (eight["rounds_to_target"], sixteen["rounds_to_target"]) == (7, None)
    assert sixteen["cost_of_rounds"] == 1000
    other = run_plan(tmp_path / "run", "--target", "accuracy=0.6", "--scale", scaled)
    assert "were to reach accuracy >= 0.5, and --target is accuracy >= 0.6" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "4,x"], "--workers 4,x: expected whole numbers"),
        (["--workers", "4,8", "--nodes", "1,2,3"], "--nodes 1,2,3 has 3 numbers"),
        (["--workers", "2,4", "--nodes", "3,4"], "nodes is 3, and there are 2 workers"),
        (["--latency", "5"], "--latency 5 is no duration (did you mean 5ms?)"),
        (["--up", "100MBit"], "--up 100MBit is no rate of a link (did you mean 100Mbit?)"),
        (["--down", "1X"], "--down 1X is no rate"),
        (["--server-up", "1X"], "--server-up 1X is no rate"),
        (["--server-down", "1X"], "--server-down 1X is no rate"),
        (["--target", "acuracy=0.9"], "--target acuracy: 'mine' has no 'acuracy' (did you mean"),
        (["--target", "foo=0.9"], "'mine' has no 'foo'; it measures ['accuracy']"),
        (["--target", "accuracy=90"], "an accuracy is a fraction here: give 0.9 for 90 per cent"),
        (["--scale", "none.json"], "says rounds to a target: give its --target"),
        (["--target", "accuracy"], "--target accuracy: expected measure=value"),
        (["--target", "accuracy=0.5", "--scale", "none.json"], "is no results.json"),
    ],
)
def test_wrong_options_are_quoted(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run_plan(write_run(tmp_path / "run"), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_target_in_per_cent_is_for_a_run_that_measures_so(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["test_accuracy"] *= 100
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run_plan(path, "--target", "accuracy=90", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["plan"][0]["rounds_to_target"] == 18


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("engine", "hosts"), [("inline", 1), pytest.param("ray", 2, marks=pytest.mark.slow)]
)
def test_runs_of_both_engines_are_planned_from(tmp_path: Path, engine: str, hosts: int) -> None:
    config = {
        "problem": "digits",
        "method": "sgd",
        "optimizer": {"kind": "sgd", "step_size": 0.1},
        "engine": engine,
        "actors": 2,
        "rounds": 12,
        "workers": 4,
    }
    with Session(config, out=tmp_path / "run") as session:
        session.run()
        seconds = session.metrics[-1]["seconds"]
    measured = measure(tmp_path / "run")
    assert (measured.engine, len(measured.worker_s), measured.exchanges) == (engine, 4, 1)
    assert 0 < 12 * (sum(measured.worker_s) / hosts + measured.server_s) < 2 * seconds
    assert measured.frames["downlink"].mean == session.ledger.frame_bytes("downlink") / 48
    assert measured.frames["uplink"].an_exchange == 4
    # calls, a fetch of the news, and one of the answers
    assert predicted(measured, 4, 4).calls_s == pytest.approx(0.02)
