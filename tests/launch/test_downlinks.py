"""Downlinks end where full parameters end, or where they say they end."""

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from launch import Session
from launch.configuration.catalogue import KINDS
from launch.configuration.run_config import load_config
from launch.engines.base import worker_plan
from launch.engines.inline import InlineEngine
from mlmc_ray.downlinks.base import request
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.methods import Method
from mlmc_ray.rounds import Answers
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.bundles import decode_bundle, is_bundle
from server.server import ParameterServer
from tests.launch.test_ray_methods import METHODS
from tests.tasks import Regression
from workers.host import WorkerHost, WorkerPlan
from workers.worker import GradientWorker

ROOT = Path(__file__).parents[2]
RAND_K, TOP_K = {"kind": "rand-k", "k": 5}, {"kind": "top-k", "k": 5}
EXACT = ["delta", "relay"]
COMPRESSED = {"kind": "compressed", "compressor": TOP_K}
ASYNCHRONOUS = ["async-sgd", "rennala"]


@dataclass(frozen=True, kw_only=True)
class Wide(Regression):
    """805 parameters and 200 running statistics, of which five entries are few."""

    batch_norm: bool = True
    dropout: float = 0.25

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(3, 100),
            nn.BatchNorm1d(100),
            nn.Tanh(),
            nn.Dropout(self.dropout),
            nn.Linear(100, 2),
            nn.Linear(2, 1),
        )


def config_of(method: Any, downlink: Any = "full", **changes: Any) -> dict[str, Any]:
    kind = method if isinstance(method, str) else method["kind"]
    optimizer = {"optimizer": {"kind": "sgd", "step_size": 0.05}}
    return {
        "problem": {"kind": "tests.launch.test_downlinks.Wide"},
        "search_paths": [str(ROOT)],
        "method": method,
        "downlink": downlink,
        **({} if KINDS[Method][kind].moves_parameters else optimizer),
        "workers": 4,
        "batch_size": 5,
        "rounds": 7,
        "evaluate_every": 7,
        "observe_every": None,
        "buffers_every": 3,
        "engine": "inline",
        **changes,
    }


def settings_of(kind: str) -> dict[str, Any]:
    return {"kind": kind, **METHODS[kind]}


# What is refused.

ONLY_FULL = {
    "adiana": "point, anchor",
    "pp-marina": "parameters, previous",
    "dasha-pp": "parameters, previous",
    "shadowheart": "parameters, gradients, messages",
    "ef21-p": "parameters, change",
    "ef21-p-diana": "parameters, change",
    "ef21-bc": "parameters, change",
    "marina-p": "parameters, change",
    "m3": "parameters, change",
    "docofl": "parameters, correction, anchor",
    "power-sgd": "parameters, left, right",
    "learned": "parameters, phase, leader, positions, weights, code",
    "tamuna": "parameters, entries",
}
GOES_ON = "workers of {} go on from the exact parameters: give downlink: full, delta or relay"
MOVING = ["scaffnew", "compressed-scaffnew"]
ADMITTED = [kind for kind in METHODS if kind not in ONLY_FULL]


@pytest.mark.parametrize("downlink", ["half", *EXACT, COMPRESSED], ids=str)
@pytest.mark.parametrize("kind", ONLY_FULL)
def test_methods_that_say_more_than_parameters_are_refused(kind: str, downlink: Any) -> None:
    name = downlink if isinstance(downlink, str) else downlink["kind"]
    with pytest.raises(ConfigError) as caught:
        load_config(config_of(settings_of(kind), downlink))
    assert str(caught.value) == (
        f"configuration: downlink is {name}, which sends parameters, and the news of {kind} are "
        f"{ONLY_FULL[kind]}: give downlink: full"
    )


@pytest.mark.parametrize("downlink", ["half", COMPRESSED], ids=str)
@pytest.mark.parametrize("kind", MOVING)
def test_points_that_are_not_exact_are_refused_to_local_methods(kind: str, downlink: Any) -> None:
    with pytest.raises(ConfigError, match=GOES_ON.format(kind)):
        load_config(config_of(settings_of(kind), downlink))


@pytest.mark.parametrize("downlink", [*EXACT, COMPRESSED], ids=str)
@pytest.mark.parametrize("kind", ASYNCHRONOUS)
def test_workers_that_are_not_waited_for_are_refused(kind: str, downlink: Any) -> None:
    settings = {"kind": kind, **({"batch": 4} if kind == "rennala" else {})}
    clock = {"compute_s": 1}
    with pytest.raises(ConfigError, match=f"{kind} is asynchronous, .*give downlink: full or half"):
        load_config(config_of(settings, downlink, clock=clock))
    load_config(config_of(settings, "half", clock=clock))


def test_all_others_are_admitted() -> None:
    for kind in ADMITTED:
        allowed = EXACT if kind in MOVING else [*EXACT, "half", COMPRESSED]
        for downlink in allowed:
            load_config(config_of(settings_of(kind), downlink))


# Exact downlinks.


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """All news that servers send in the test, each with its round."""
    sent: list[tuple[int, bytes]] = []
    broadcast = ParameterServer.broadcast

    def recording(server: ParameterServer) -> dict[int, bytes]:
        news = broadcast(server)
        sent.extend((server.round_index, frame) for frame in news.values())
        return news

    monkeypatch.setattr(ParameterServer, "broadcast", recording)
    return sent


def kind_of(frame: bytes) -> str:
    if is_bundle(frame):
        return "bundle"
    return "change" if "change" in decode(frame).payloads else "full"


def kinds_of(frames: list[tuple[int, bytes]]) -> Counter[str]:
    return Counter(kind_of(frame) for _, frame in frames)


def assert_ends_like(one: Session, other: Session) -> None:
    """Compare parameters and the whole model, bit by bit."""
    state, expected = one.model_state(), other.model_state()
    assert torch.equal(one.parameters(), other.parameters())
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name


def run(config: dict[str, Any]) -> Session:
    """Return a session that has ended, of which parameters and model can still be asked for."""
    session = Session(config)
    session.run()
    return session


@pytest.mark.parametrize("kind", ADMITTED)
def test_exact_downlinks_end_like_full_and_go_on_in_a_branch(kind: str) -> None:
    short = {"rounds": 5, "buffers_every": 2}
    expected = run(config_of(settings_of(kind), **short))
    for downlink in EXACT:
        session = Session(config_of(settings_of(kind), downlink, **short))
        session.run(3)
        branch = session.branch("branch")
        session.run()
        branch.run()
        assert_ends_like(session, expected)
        assert_ends_like(branch, expected)


OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "sgd", "step_size": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    {"kind": "adam", "step_size": 0.01},
    {"kind": "adamw", "step_size": 0.01},
    {"kind": "proximal-sgd", "step_size": 0.05, "l1": 1e-3, "l2": 1e-3},
]
SPARSE = {"kind": "compressed-sgd", "compressor": TOP_K}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["kind"])
@pytest.mark.parametrize("kind", ["compressed-sgd", "ef21-sgdm"])
def test_exact_downlinks_end_like_full_with_every_optimizer(
    kind: str, optimizer: dict[str, Any], frames: list[tuple[int, bytes]]
) -> None:
    method = {"kind": kind, "compressor": TOP_K}
    settings = {"optimizer": optimizer, "buffers_every": 100}
    expected = run(config_of(method, **settings))
    frames.clear()
    assert_ends_like(run(config_of(method, "relay", **settings)), expected)
    assert kinds_of(frames) == {"bundle": 28}
    assert_ends_like(run(config_of(method, "delta", **settings)), expected)


def test_short_frames_are_sent_where_they_are_short(frames: list[tuple[int, bytes]]) -> None:
    full = run(config_of(SPARSE))
    whole = full.ledger.frame_bytes("downlink")
    for downlink, kind in (("delta", "change"), ("relay", "bundle")):
        frames.clear()
        session = run(config_of(SPARSE, downlink, buffers_every=100))
        assert kinds_of(frames) == {kind: 28}
        assert session.ledger.frame_bytes("downlink") < whole / 3
        assert session.ledger.frame_bytes("uplink") < full.ledger.frame_bytes("uplink")


def test_long_reports_are_not_relayed(frames: list[tuple[int, bytes]]) -> None:
    session = run(config_of("sgd", "relay"))
    assert kinds_of(frames) == {"bundle": 4, "full": 24}
    assert_ends_like(session, run(config_of("sgd")))


def test_every_observed_byte_of_a_bundle_is_told() -> None:
    session = run(config_of(SPARSE, "relay", observe_every=1, rounds=3))
    for seen in session.observations:
        parts = [part for part in seen["parts"] if part["direction"] == "downlink"]
        down = sum(part["bytes"] for part in parts)
        ledger = [e for e in session.ledger if e.round_index == seen["round"] - 1]
        assert down == sum(e.frame_bytes for e in ledger if e.direction == "downlink")
    assert ("relayed gradient", "sparse") in {(part["name"], part["kind"]) for part in parts}
    told = sum(part["bytes"] for part in parts if part["name"] == "relayed gradient")
    assert sum(seen["layers"]["downlink"].values()) == pytest.approx(told, abs=1)


# Full copies, for those who lack one.


def replace_host(session: Session) -> None:
    """Let other processes take over the workers: they remember all but the copy."""
    engine = session._engine
    assert isinstance(engine, InlineEngine)
    states = engine._host.state_dict()
    engine._host = WorkerHost(worker_plan(session.config), range(session.config.workers))
    engine._host.load_state_dict(states)


CHANGING = [*EXACT, COMPRESSED]
WITHOUT = r"workers \[0, 1, 2, 3\] have no copy of the parameters"


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
def test_a_host_without_a_copy_asks_for_one(downlink: Any) -> None:
    notes: list[str] = []
    config = config_of(SPARSE, downlink)
    expected, session = run(config), Session(config, on_note=notes.append)
    session.run(4)
    assert notes == []
    replace_host(session)
    session.run()
    assert_ends_like(session, expected)
    (note,) = notes
    assert note == (
        "round 4: workers [0, 1, 2, 3] have no copy of the parameters, or not that of the server: "
        "they are sent a full one"
    )
    counts = Counter((e.round_index, e.direction) for e in session.ledger)
    assert counts.pop((4, "uplink")) == counts.pop((4, "downlink")) == 8
    assert set(counts.values()) == {4}
    asked = [
        e.frame_bytes for e in session.ledger if e.round_index == 4 and e.direction == "uplink"
    ]
    assert asked[:4] == [len(encode(request()))] * 4


@pytest.mark.parametrize("downlink", ["full", "half"])
def test_a_host_without_a_copy_needs_none_where_all_is_sent(downlink: str) -> None:
    notes: list[str] = []
    config = config_of(SPARSE, downlink)
    expected, session = run(config), Session(config, on_note=notes.append)
    session.run(4)
    replace_host(session)
    session.run()
    assert_ends_like(session, expected)
    assert notes == []


class Hosts:
    """Several processes, as the engine sees one."""

    def __init__(self, plan: WorkerPlan, *groups: Sequence[int]) -> None:
        self.hosts = [WorkerHost(plan, ids) for ids in groups or ((0, 2), (1, 3))]

    def step(
        self,
        round_index: int,
        exchange_index: int,
        frames: Sequence[Mapping[int, bytes]],
        *,
        observe: bool,
    ) -> list[Answers]:
        made = []
        for host in self.hosts:
            own = [{i: news[i] for i in host.state_dict() if i in news} for news in frames]
            if own[0]:
                made.append(host.step(round_index, exchange_index, own, observe=observe))
        return [merged(answers) for answers in zip(*made, strict=True)]


def merged(answers: Sequence[Answers]) -> Answers:
    """Return the answers of several processes to one server as those of one."""
    fields = ("reports", "losses", "seconds", "num_gradients", "compressions")
    parts = {name: [getattr(one, name) for one in answers] for name in fields}
    joined: dict[str, Any] = {name: dict(ChainMap(*own)) for name, own in parts.items()}
    return Answers(**joined)


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
def test_the_others_go_on_while_one_host_asks(downlink: Any) -> None:
    notes: list[str] = []
    config = config_of(SPARSE, downlink)
    expected, session = run(config), Session(config, on_note=notes.append)
    hosts = Hosts(worker_plan(session.config))
    session._engine._host = hosts  # type: ignore[attr-defined]
    session.run(4)
    hosts.hosts[1]._inbox.forget()
    session.run()
    assert_ends_like(session, expected)
    assert [note.partition(" have")[0] for note in notes] == ["round 4: workers [1, 3]"]
    counts = Counter(e.worker_id for e in session.ledger if e.round_index == 4)
    assert counts == {0: 2, 1: 4, 2: 2, 3: 4}


def spoil(session: Session) -> None:
    """Let the replica of the workers differ in one bit from the server's."""
    replica = session._engine._host._inbox._receivers[0]._replica  # type: ignore[attr-defined]
    replica.parameters.view(torch.int32)[100] ^= 1


def test_replicas_that_differ_are_found_and_put_right() -> None:
    notes: list[str] = []
    expected = run(config_of(SPARSE))
    relay = {"kind": "relay", "digest_every": 2}
    session = Session(config_of(SPARSE, relay), on_note=notes.append)
    session.run(4)
    spoil(session)
    session.run()
    assert_ends_like(session, expected)
    assert [note.partition(" of the parameters, or not")[0] for note in notes] == [
        "round 4: workers [0, 1, 2, 3] have no copy"
    ]


def test_replicas_that_differ_are_not_found_without_a_digest() -> None:
    notes: list[str] = []
    relay = {"kind": "relay", "digest_every": 100}
    session = Session(config_of(SPARSE, relay), on_note=notes.append)
    session.run(4)
    spoil(session)
    session.run()
    assert notes == []


def test_a_second_request_in_one_round_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(config_of(SPARSE, "delta"))
    session.run(2)
    receiver = session._engine._host._inbox._receivers[0]  # type: ignore[attr-defined]
    monkeypatch.setattr(type(receiver), "take", lambda *_: None)
    with pytest.raises(RoundError, match=r"^round 2: workers \[0, 1, 2, 3\] were sent a full copy"):
        session.run()


# Workers that are not asked in every round.


def partly(k: int, downlink: Any) -> dict[str, Any]:
    method = {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": k}}
    some = {"kind": "partial-participation", "method": method, "participants": 2}
    return config_of(some, downlink, workers=8, rounds=16, buffers_every=100)


def longest(frames: list[tuple[int, bytes]]) -> int:
    """How many rounds a frame has brought up to date at most."""
    rounds = [0]
    for round_index, frame in frames:
        if is_bundle(frame):
            rounds.append(len(decode_bundle(frame).rounds))
        elif kind_of(frame) == "change":
            rounds.append(round_index - int(decode(frame).scalars["since"]))
    return max(rounds)


@pytest.mark.parametrize("downlink", EXACT)
def test_workers_that_were_away_get_all_rounds_at_once(
    downlink: str, frames: list[tuple[int, bytes]]
) -> None:
    expected = run(partly(5, "full"))
    frames.clear()
    assert_ends_like(run(partly(5, downlink)), expected)
    assert longest(frames) > 4
    assert "full" not in kinds_of(frames)


def test_workers_that_were_away_get_all_changes_at_once(frames: list[tuple[int, bytes]]) -> None:
    """The copies on the workers are the server's, so a restored host changes nothing."""
    config = partly(5, COMPRESSED)
    expected, session = run(config), Session(config)
    assert longest(frames) > 4
    session.run(9)
    replace_host(session)
    session.run()
    assert_ends_like(session, expected)


@pytest.mark.parametrize("downlink", ["relay", COMPRESSED], ids=str)
def test_after_too_long_a_backlog_there_is_a_full_copy(
    downlink: Any, frames: list[tuple[int, bytes]]
) -> None:
    if downlink != "relay":
        downlink = {"kind": "compressed", "compressor": {"kind": "top-k", "k": 200}}
    expected = run(partly(100, "full"))
    frames.clear()
    session = run(partly(100, downlink))
    assert kinds_of(frames)["full"] > 0
    assert 1 < longest(frames) < 8
    if downlink == "relay":
        assert_ends_like(session, expected)


# Rounded and compressed.


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_workers_compute_at_the_rounded_point(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[torch.Tensor] = []
    step = GradientWorker.step

    def recording(worker: GradientWorker, *args: Any) -> Any:
        told.append(args[1][0].payloads["parameters"].to_dense())
        return step(worker, *args)

    monkeypatch.setattr(GradientWorker, "step", recording)
    session = Session(config_of("sgd", {"kind": "half", "format": form}))
    for _ in range(7):
        exact = session.parameters()
        session.run(1)
        rounded = exact.to(getattr(torch, form)).to(torch.float32)
        assert not torch.equal(rounded, exact)
        assert len(told) == 4
        assert all(torch.equal(point, rounded) for point in told)
        told.clear()


def test_half_is_half_as_long() -> None:
    full, half = (run(config_of("sgd", kind, buffers_every=100)) for kind in ("full", "half"))
    first, second = (
        sum(e.frame_bytes for e in session.ledger if e.direction == "downlink" and e.round_index)
        for session in (full, half)
    )
    assert first - second == 6 * 4 * 2 * 805


@pytest.mark.parametrize("uplink", ["sgd", "diana"])
def test_compressed_is_ef21_p(uplink: str) -> None:
    quadratic = {"problem": {"kind": "quadratic", "num_functions": 4, "dim": 40}}
    own = {"compressor": RAND_K} if uplink == "diana" else {}
    plain = run(config_of({"kind": uplink, **own}, COMPRESSED, **quadratic))
    kind = "ef21-p-diana" if uplink == "diana" else "ef21-p"
    other = run(config_of({"kind": kind, **own, "downlink": TOP_K}, **quadratic))
    torch.testing.assert_close(plain.parameters(), other.parameters(), rtol=0, atol=0)


@pytest.mark.parametrize("downlink", ["full", "half", COMPRESSED], ids=str)
@pytest.mark.parametrize("compressor", [TOP_K, {"kind": "rand-k", "k": 5}], ids=str)
def test_a_branch_goes_on_exactly(downlink: Any, compressor: Any) -> None:
    if isinstance(downlink, dict) and compressor["kind"] == "rand-k":
        downlink = {"kind": "compressed", "compressor": {**compressor, "scaled": False}}
    config = config_of({"kind": "compressed-sgd", "compressor": compressor}, downlink)
    session = Session(config)
    session.run(4)
    branch = session.branch("branch")
    session.run()
    branch.run()
    assert_ends_like(branch, session)


@pytest.mark.parametrize("first", ["full", "relay", COMPRESSED], ids=str)
@pytest.mark.parametrize("second", ["half", "delta", "relay", COMPRESSED], ids=str)
def test_a_run_may_change_its_downlink(first: Any, second: Any) -> None:
    session = Session(config_of(SPARSE, first))
    session.run(3)
    session.change(downlink=second)
    session.run()
    assert session.round_index == 7


# Clipped steps, and several servers.


@pytest.mark.parametrize("downlink", EXACT)
def test_clipped_steps_end_like_full(downlink: str) -> None:
    plain = run(config_of(SPARSE))
    expected = run(config_of(SPARSE, clip_norm=0.5))
    assert not torch.equal(plain.parameters(), expected.parameters())
    assert_ends_like(run(config_of(SPARSE, downlink, clip_norm=0.5)), expected)


@pytest.mark.parametrize("downlink", EXACT)
@pytest.mark.parametrize(
    "kind",
    ["compressed-sgd", pytest.param("ef21-sgdm", marks=pytest.mark.slow), "partial-participation"],
)
def test_every_server_has_a_downlink_of_its_own(
    downlink: str, kind: str, frames: list[tuple[int, bytes]]
) -> None:
    settings = {"servers": 3, "buffers_every": 4}
    expected = run(config_of(settings_of(kind), **settings))
    frames.clear()
    session = Session(config_of(settings_of(kind), downlink, **settings))
    session.run(3)
    branch = session.branch("branch")
    session.run()
    branch.run()
    assert_ends_like(session, expected)
    assert_ends_like(branch, expected)
    assert kinds_of(frames)["change" if downlink == "delta" else "bundle"] > 20


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
@pytest.mark.parametrize("lost", [0, 2])
def test_a_copy_of_one_span_that_is_lost_is_asked_for_once(downlink: Any, lost: int) -> None:
    notes: list[str] = []
    config = config_of(SPARSE, downlink, servers=3)
    expected, session = run(config), Session(config, on_note=notes.append)
    session.run(4)
    inbox = session._engine._host._inbox  # type: ignore[attr-defined]
    inbox._receivers[lost] = inbox._receiver(inbox._spans[lost])
    session.run()
    assert_ends_like(session, expected)
    (note,) = notes
    assert note.startswith("round 4: workers [0, 1, 2, 3] have no copy")


def test_servers_draw_what_they_compress_each_for_itself(frames: list[tuple[int, bytes]]) -> None:
    rand_k = {"kind": "compressed", "compressor": {"kind": "rand-k", "k": 2, "scaled": False}}
    quadratic = {"kind": "quadratic", "num_functions": 4, "dim": 40}
    run(config_of("sgd", rand_k, problem=quadratic, servers=2, rounds=6))
    changes = {frame for round_index, frame in frames if round_index}
    seeds = [decode(frame).payloads["change"].seed for frame in changes]  # type: ignore[attr-defined]
    assert len(seeds) == len(set(seeds)) == 2 * 5
