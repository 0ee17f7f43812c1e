"""Runs with several servers, and with clipped steps, in one process."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from launch import Session
from launch.cli import app
from launch.configuration.run_config import load_config
from launch.session import check_run
from mlmc_ray.errors import ConfigError, NonFiniteError, RoundError
from tests.launch.same_runs import RAND_K, TOP_K, config_of
from tests.launch.test_ray_methods import METHODS

SGD = {"kind": "sgd", "step_size": 0.05}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": SGD,
    "momentum": {**SGD, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"kind": "adam", "step_size": 0.05},
    "adamw": {"kind": "adamw", "step_size": 0.05},
    "proximal-sgd": {"kind": "proximal-sgd", "step_size": 0.05, "l1": 0.01, "l2": 0.1},
}
COMPRESSED = {"kind": "compressed-sgd", "compressor": RAND_K}
CLIPPED = {"clip_norm": 0.5, "optimizer": SGD}


def config(method: Any = "sgd", **changes: Any) -> dict[str, Any]:
    return {**config_of(method, 1), "engine": "inline", **changes}


def ended(**changes: Any) -> Session:
    """Return a session that has run; in one process it still answers questions."""
    session = Session(config(**changes))
    session.run()
    return session


def assert_same(first: Session, second: Session) -> None:
    """Compare all but the bytes and the time."""
    assert torch.equal(first.parameters(), second.parameters())
    state, expected = first.model_state(), second.model_state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in expected.items())
    for one, other in zip(first.metrics, second.metrics, strict=True):
        names = {name for name in one if not name.endswith(("bytes", "seconds"))}
        assert {name: one[name] for name in names} == {name: other[name] for name in names}


# The same as with one server.


@pytest.mark.parametrize(
    ("name", "downlink"),
    [
        pytest.param(
            name,
            downlink,
            marks=[] if name == "momentum" or downlink == "full" else [pytest.mark.slow],
        )
        for name in OPTIMIZERS
        for downlink in ("full", "half", "delta")
    ],
)
def test_uncompressed_runs_are_those_of_one_server(name: str, downlink: str) -> None:
    """Batch normalisation, dropout, and statistics that come in every other round included."""
    common: dict[str, Any] = {"optimizer": OPTIMIZERS[name], "downlink": downlink}
    expected = ended(**common)
    for servers in (2, 5):
        assert_same(ended(**common, servers=servers), expected)


def test_local_steps_are_those_of_one_server() -> None:
    method = {"kind": "scaffnew", "step_size": 0.05, "probability": 0.5}
    assert_same(ended(method=method, servers=3), ended(method=method))


@pytest.mark.parametrize("servers", [2, 5])
def test_clipped_runs_are_those_of_one_server(servers: int) -> None:
    expected = ended(**CLIPPED)
    assert_same(ended(**CLIPPED, servers=servers), expected)
    assert not torch.equal(expected.parameters(), ended(optimizer=SGD).parameters())


def test_a_compressor_draws_for_every_span_by_itself() -> None:
    """With three entries kept of every quarter, each span has others than with one server."""
    parameters = [ended(method=COMPRESSED, servers=n).parameters() for n in (1, 2, 2)]
    assert not torch.equal(parameters[0], parameters[1])
    assert torch.equal(parameters[1], parameters[2])


# Clipped steps.


def test_a_clipped_step_has_the_norm_that_was_asked_for() -> None:
    for servers in (1, 3):
        with Session(config(**CLIPPED, servers=servers)) as session:
            before = session.parameters()
            session.run(1)
            step = session.parameters() - before
        assert float(step.norm()) == pytest.approx(0.05 * 0.5, rel=1e-4)


def test_relayed_steps_are_clipped_as_the_servers_are() -> None:
    common: dict[str, Any] = {"method": COMPRESSED, **CLIPPED, "rounds": 8, "buffers_every": 4}
    relayed, full = (ended(**common, downlink=downlink) for downlink in ("relay", "full"))
    assert_same(relayed, full)
    bytes_down = [session.metrics[-1]["downlink_bytes"] for session in (relayed, full)]
    assert bytes_down[0] != bytes_down[1]


# Every method.

# Spans of the model have fewer layers, and its last one holds no matrix.
FITTING = {kind: {"kind": kind, **settings} for kind, settings in METHODS.items()}
FITTING["learned"]["edge_layers"] = 0


@pytest.mark.parametrize("kind", FITTING)
def test_every_method_runs_on_two_servers(kind: str) -> None:
    method = FITTING[kind]
    one, two = (ended(method=method, servers=servers, rounds=4) for servers in (1, 2))
    if kind != "shadowheart":  # which plans its batches by the variance of the compressor
        assert one.metrics[-1]["gradients"] == two.metrics[-1]["gradients"]
    places = [(entry.round_index, entry.worker_id, entry.direction) for entry in one.ledger]
    twice = [(entry.round_index, entry.worker_id, entry.direction) for entry in two.ledger]
    assert sorted(twice) == sorted(2 * places)


REFUSED: dict[str, dict[str, Any]] = {
    "servers is 38, and the model has 37 parameters: give fewer": {"servers": 38},
    "method.compressor.k is 19, and the smallest span of the 2 servers has 18 parameters: give at "
    "most that many, or a fraction such as 0.01": {
        "method": {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 19}},
        "servers": 2,
    },
    "downlink.compressor.k is 8, and the smallest span of the 5 servers has 7 parameters: give at "
    "most that many, or a fraction such as 0.01": {
        "downlink": {"kind": "compressed", "compressor": {"kind": "top-k", "k": 8}},
        "servers": 5,
    },
    "servers is 3, and the spans of servers [1, 2] hold no matrix to project to rank 1, while "
    "others do: give fewer servers": {"method": {"kind": "power-sgd", "rank": 1}, "servers": 3},
    "method: servers is 2, and for the span of server 0 alone: edge_layers is 2, and the model has "
    "3 parameter tensors: none is left to encode; give at most 1, or fewer servers": {
        "method": {"kind": "learned", "k": 0.5},
        "servers": 2,
    },
    "configuration: clip_norm is 2, and scaffnew moves the parameters itself: leave clip_norm "
    "out": {
        "method": {"kind": "scaffnew", "step_size": 0.1, "probability": 0.5},
        "clip_norm": 2,
    },
    "configuration: servers is 2, clip_norm is 2, and downlink is relay: who replicates one span "
    "does not know the norm of the others: leave clip_norm out, or give another downlink": {
        "method": COMPRESSED,
        "downlink": "relay",
        "clip_norm": 2,
        "servers": 2,
    },
    "configuration: servers is 2, and async-sgd is asynchronous: the spans of its parameters would "
    "move at different times: give servers: 1": {
        "method": {"kind": "async-sgd"},
        "clock": {"compute_s": 1},
        "servers": 2,
    },
    "configuration: servers: got 0: Input should be greater than or equal to 1": {"servers": 0},
    "configuration: clip_norm: got 0: Input should be greater than 0": {"clip_norm": 0},
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_run_is_refused_before_it_begins(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_run(load_config(config(**REFUSED[text])))
    assert str(caught.value) == text


# What fails, fails in round and worker, and leaves no thread behind.


@pytest.mark.parametrize("kind", ["sgd", "compressed-sgd", "ef21-sgdm", "scaffnew"])
def test_a_gradient_that_is_not_finite_names_its_layer(kind: str) -> None:
    before = set(threading.enumerate())
    problem = {"kind": "tests.tasks.Regression", "nan_worker": 2}
    text = r"^round 0: worker 2: .* first in layer 4\.bias"
    with (
        Session(config(method=FITTING[kind], problem=problem, servers=2)) as session,
        pytest.raises(NonFiniteError, match=text),
    ):
        session.run()
    assert set(threading.enumerate()) <= before


def test_a_setting_that_does_not_fit_a_span_is_named() -> None:
    law = {"kind": "given", "values": [1.0]}
    ladder = {"kind": "s-top-k", "segment_size": 5}
    method = {**COMPRESSED, "compressor": {"kind": "mlmc", "ladder": ladder, "law": law}}
    before = set(threading.enumerate())
    with (
        Session(config(method=method, servers=4)) as session,
        pytest.raises(RoundError, match=r"^round 0: worker 0: law 'given': .* has 2 levels"),
    ):
        session.run()
    assert set(threading.enumerate()) <= before


# What a session does besides.


def test_a_branch_goes_on_as_the_run_does() -> None:
    common = config(COMPRESSED, servers=2, downlink="delta", rounds=6)
    with Session(common) as session:
        session.run(3)
        with session.branch("again") as branch:
            session.run()
            branch.run()
            assert torch.equal(branch.parameters(), session.parameters())
            assert branch.evaluate() == session.evaluate()


def test_a_run_keeps_its_servers_and_may_change_the_rest() -> None:
    with Session(config(COMPRESSED, servers=2, rounds=6)) as session:
        session.run(2)
        with pytest.raises(ConfigError, match="servers has changed: a run keeps its servers"):
            session.change(servers=3)
        session.change(method={"kind": "ef21-sgdm", "compressor": TOP_K}, clip_norm=0.5)
        session.scale_to(3)
        session.run()
        assert session.round_index == 6


def test_the_saved_model_is_that_of_all_servers(tmp_path: Path) -> None:
    with Session(config(servers=3), out=tmp_path / "run") as session:
        session.run()
        state = torch.load(session.save(), weights_only=True)
        expected = session.model_state()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
        flat = torch.cat([state[name].flatten() for name in PARAMETERS])
        assert torch.equal(flat, session.parameters())


PARAMETERS = [f"{layer}.{name}" for layer in (0, 1, 4, 5) for name in ("weight", "bias")]


def test_bytes_by_layer_add_up_to_those_of_one_server() -> None:
    """But for what every frame has before its numbers."""
    one, three = (
        ended(servers=servers, rounds=1, observe_every=1).observations[0] for servers in (1, 3)
    )
    for direction in ("uplink", "downlink"):
        alone, cut = one["layers"][direction], three["layers"][direction]
        assert list(alone) == list(cut) == PARAMETERS
        extra = sum(cut.values()) - sum(alone.values())
        assert 0 <= extra < 4 * 3 * 40  # of four workers and three servers
        assert all(cut[name] == pytest.approx(alone[name], rel=1.0) for name in PARAMETERS)


def test_compressions_are_seen_by_worker_and_span() -> None:
    session = ended(method=COMPRESSED, servers=2, rounds=1, observe_every=1)
    workers = session.observations[0]["workers"]
    assert {name: [one["dim"] for one in own] for name, own in workers.items()} == {
        str(worker_id): [18, 19] for worker_id in range(4)
    }


# The command line.


def test_the_run_directory_is_read_like_others(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Session(config(COMPRESSED, servers=2), out=out) as session:
        session.run()
        frames = len(session.ledger)
    assert frames == 2 * 2 * 4 * 5  # servers, directions, workers, rounds
    assert len((out / "ledger.csv").read_text().splitlines()) == frames + 1
    assert "servers: 2\n" in (out / "config.yaml").read_text()
    result = CliRunner().invoke(app, ["report", str(out), "--out", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["train", str(out / "config.yaml"), "--set", "rounds=2"])
    assert result.exit_code == 0, result.output
