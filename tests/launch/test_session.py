"""Sessions in one process: what they count, write, repeat and refuse."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import workers.host
from launch import Session
from mlmc_ray.downlinks import copies
from mlmc_ray.errors import ConfigError, NonFiniteError, ProblemError, RoundError
from mlmc_ray.ledger import DIRECTIONS, Entry, Ledger
from mlmc_ray.payloads import Message
from mlmc_ray.wire import encode

MLMC_S_TOP_K = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 3}}
MLMC_FIXED_POINT = {"kind": "mlmc", "law": "own", "ladder": "fixed-point"}


def compressed(compressor: Any) -> dict[str, Any]:
    return {"kind": "compressed-sgd", "compressor": compressor}


SGD = {"kind": "sgd", "step_size": 0.03125}


def config_of(method: Any = "sgd", **changes: Any) -> dict[str, Any]:
    return {
        "problem": {"kind": "quadratic", "num_functions": 3, "dim": 8, "noise": 0.1},
        "method": method,
        "optimizer": SGD,
        "workers": 3,
        "rounds": 4,
        "evaluate_every": 2,
        "engine": "inline",
        **changes,
    }


def regression(**changes: Any) -> dict[str, Any]:
    options = changes.pop("options", {})
    return config_of(problem={"kind": "tests.tasks.Regression", **options}, **changes)


# The ledger.
#
# Sizes by hand, for a vector of 8 entries. Every frame: array of 3, version (2 bytes), map of one
# payload (1), its name (1 + length), the payload, map of no scalars (1).
#
#   news         "parameters" 11; array, kind, format 3; values 2 + 32                   -> 52
#   dense        "gradient" 9; array, kind, format 3; values 2 + 32                      -> 50
#   top-k, k=2   "gradient" 9; array, kind, dim 3; indices 2 + 2 (a mode and a bitmap of 8 bits);
#                format 1; values 2 + 8                                                  -> 31
#   ef21         the same with "change" 7                                                -> 29
#   rand-k, k=2  "gradient" 9; array, kind, dim 3; seed 9; format 1; values 2 + 8        -> 36
#   s-top-k      "gradient" 9; array, kind, dim 3; indices 2 + 2; format 1; values 2 + 12 -> 35
#                and for the two entries of the third level                              -> 31
#   contiguous   "gradient" 9; array, kind, dim, size 4; segments 2 + 2; format 1;
#                values 2 + 12                                                           -> 36
#                and for the two entries of the third level                              -> 32
#   codes        "gradient" 9; array, kind, dim, bucket size 4; scale 2 + 4; codebook, low,
#                alphabet 3; codes 2 +                                                   -> 28 +
#     ternary    one symbol 0; of 2 symbols 2 (a mode and 8 bits); of 3 symbols 3
#     planes=3   of 4 symbols 3, of 5 to 8 symbols 4, of 9 to 15 symbols 5

NEWS = 2 + 1 + 11 + (3 + 2 + 32) + 1
REPORTS: dict[str, tuple[Any, set[int]]] = {
    "sgd": ("sgd", {2 + 1 + 9 + (3 + 2 + 32) + 1}),
    "top-k": (compressed({"kind": "top-k", "k": 2}), {2 + 1 + 9 + (3 + 4 + 11) + 1}),
    "ef21": (
        {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 0.25}},
        {2 + 1 + 7 + (3 + 4 + 11) + 1},
    ),
    "rand-k": (compressed({"kind": "rand-k", "k": 2}), {2 + 1 + 9 + (3 + 9 + 11) + 1}),
    "mlmc s-top-k": (compressed(MLMC_S_TOP_K), {2 + 1 + 9 + (3 + 4 + 15) + 1, 31}),
    "mlmc contiguous": (
        compressed(
            {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 3, "contiguous": True}}
        ),
        {2 + 1 + 9 + (4 + 4 + 15) + 1, 32},
    ),
    "mlmc fixed point": (compressed(MLMC_FIXED_POINT), {28 + more for more in (0, 2, 3)}),
    "fixed point": (
        compressed({"kind": "fixed-point", "planes": 3}),
        {28 + more for more in (2, 3, 4, 5)},
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_ledger_of_a_run_holds_the_sizes_reckoned_by_hand(name: str) -> None:
    assert NEWS == 52
    method, sizes = REPORTS[name]
    with Session(config_of(method)) as session:
        session.run()
    rounds_and_workers = [(r, w) for r in range(4) for w in range(3)]
    down = [e for e in session.ledger if e.direction == "downlink"]
    assert [(e.round_index, e.worker_id, e.frame_bytes) for e in down] == [
        (r, w, NEWS) for r, w in rounds_and_workers
    ]
    up = [e for e in session.ledger if e.direction == "uplink"]
    assert [(e.round_index, e.worker_id) for e in up] == rounds_and_workers
    assert {e.frame_bytes for e in up} <= sizes
    if len(sizes) == 1:
        assert session.metrics[-1]["uplink_bytes"] == 4 * 3 * next(iter(sizes))
    assert session.metrics[-1]["downlink_bytes"] == 4 * 3 * NEWS


@pytest.mark.parametrize("name", REPORTS)
def test_the_ledger_is_the_sum_of_the_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    news: list[int] = []
    reports: list[int] = []
    for module, lengths in ((copies, news), (workers.host, reports)):

        def counted(message: Message, lengths: list[int] = lengths) -> bytes:
            frame = encode(message)
            lengths.append(len(frame))
            return frame

        monkeypatch.setattr(module, "encode", counted)
    with Session(config_of(REPORTS[name][0])) as session:
        session.run()
    assert (len(news), len(reports)) == (4, 12)
    ledger = session.ledger
    for round_index in range(4):
        of_round = reports[3 * round_index : 3 * round_index + 3]
        assert ledger.frame_bytes("uplink", round_index=round_index) == sum(of_round)
        assert ledger.frame_bytes("downlink", round_index=round_index) == 3 * news[round_index]
    for worker_id in range(3):
        assert ledger.frame_bytes("uplink", worker_id=worker_id) == sum(reports[worker_id::3])
        assert ledger.frame_bytes("downlink", worker_id=worker_id) == sum(news)
    assert ledger.frame_bytes("uplink") == sum(reports)
    assert ledger.frame_bytes("downlink") == 3 * sum(news)


def test_metrics_count_bytes_since_the_start() -> None:
    with Session(config_of(compressed(MLMC_S_TOP_K))) as session:
        session.run()
    for direction in DIRECTIONS:
        sent = [session.ledger.frame_bytes(direction, round_index=r) for r in range(4)]
        counted = [metrics[f"{direction}_bytes"] for metrics in session.metrics]
        assert counted == [sum(sent[:r]) for r in range(5)]


def test_running_statistics_are_counted_when_they_are_sent() -> None:
    # "buffers" 8; array, kind, format 3; 8 values 2 + 32: with the reports of rounds 1 and 3, and
    # with the news of rounds 0, 2 and 4. The names of both payloads are in one map, of one byte.
    statistics = 8 + 3 + 34
    config = regression(options={"batch_norm": True}, buffers_every=2, rounds=5)
    with Session(config) as session:
        session.run()
    ledger = session.ledger
    up = [ledger.frame_bytes("uplink", round_index=r, worker_id=1) for r in range(5)]
    down = [ledger.frame_bytes("downlink", round_index=r, worker_id=1) for r in range(5)]
    assert [size - up[0] for size in up] == [0, statistics, 0, statistics, 0]
    assert [size - down[1] for size in down] == [statistics, 0, statistics, 0, statistics]


def test_paper_bits_stand_beside_the_bytes() -> None:
    with Session(config_of(compressed({"kind": "top-k", "k": 2}))) as session:
        session.run()
    assert session.ledger.paper_bits("uplink") == 12 * 64 * 2
    assert session.ledger.paper_bits("downlink") == 12 * 64 * 8


# Runs repeat.


def without_seconds(session: Session) -> list[dict[str, Any]]:
    return [{k: v for k, v in metrics.items() if k != "seconds"} for metrics in session.metrics]


def assert_same_run(first: Session, second: Session) -> None:
    assert without_seconds(first) == without_seconds(second)
    assert first.ledger == second.ledger
    assert torch.equal(first.parameters(), second.parameters())
    state = second.model_state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.model_state().items())


@pytest.mark.parametrize("name", REPORTS)
def test_a_run_repeats_from_the_configuration_in_its_directory(name: str, tmp_path: Path) -> None:
    config = config_of(REPORTS[name][0], seed=5, name="Again?")
    again = tmp_path / "run" / "config.yaml"
    with Session(config, out=tmp_path / "run") as first, Session(again) as second:
        first.run()
        second.run()
        assert first.config == second.config
        assert_same_run(first, second)


def test_a_run_with_dropout_and_normalisation_repeats(tmp_path: Path) -> None:
    config = regression(options={"batch_norm": True, "dropout": 0.5}, batch_size=4)
    with Session(config) as first, Session(config) as second:
        for seed, session in enumerate((first, second)):
            torch.manual_seed(seed)  # which no run may look at
            session.run()
        assert_same_run(first, second)


def test_another_seed_is_another_run() -> None:
    ends = []
    for seed in (0, 1):
        with Session(config_of(), overrides=[f"seed={seed}"]) as session:
            session.run()
            ends.append(session.parameters())
    assert not torch.equal(*ends)


def test_rounds_may_be_run_in_parts(tmp_path: Path) -> None:
    config = config_of(compressed(MLMC_S_TOP_K), evaluate_every=1)
    seen: list[int] = []
    with Session(config) as whole, Session(config) as parts:
        whole.run()
        parts.run(1, on_round=lambda metrics: seen.append(metrics["round"]))
        parts.run(0)
        assert parts.round_index == 1
        parts.run(on_round=lambda metrics: seen.append(metrics["round"]))
        assert parts.run()["round"] == 4
        assert seen == [1, 2, 3, 4]
        assert_same_run(whole, parts)


def test_a_session_leaves_torch_as_it_was() -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    config = regression(options={"dropout": 0.5}, threads=threads + 1)
    with Session(config) as session:
        session.run()
    with pytest.raises(ProblemError):
        Session(config_of(workers=2, threads=threads + 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


# The run directory.


def test_a_run_directory_holds_the_run(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    with Session(config_of(compressed(MLMC_S_TOP_K)), out=out) as session:
        session.run()
        model = session.save()
        state = session.model_state()
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == session.metrics
    with (out / "ledger.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == Entry._fields
    assert (
        Ledger(
            Entry(int(r), int(w), "uplink" if d == "uplink" else "downlink", int(size), int(bits))
            for r, w, d, size, bits in rows
        )
        == session.ledger
    )
    assert yaml.safe_load((out / "config.yaml").read_text()) == session.config.to_mapping()
    assert {"python", "torch", "ray", "mlmc-ray"} <= set(
        json.loads((out / "versions.json").read_text())
    )
    saved = torch.load(model, weights_only=True)
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())


def test_evaluations_come_as_configured_and_at_the_ends() -> None:
    with Session(config_of(rounds=5)) as session:
        session.run()
        tested = [m["round"] for m in session.metrics if "test_gap" in m]
        assert tested == [0, 2, 4, 5]
        assert session.evaluate() == {
            name: session.metrics[-1][f"test_{name}"] for name in ("gap", "squared_distance")
        }


def test_saving_needs_a_directory() -> None:
    with Session(config_of()) as session, pytest.raises(ConfigError, match="no run directory"):
        session.save()


def test_a_used_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    with Session(config_of(), out=tmp_path) as session:
        session.run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=f"{tmp_path} already holds a run: give another --out"):
        Session(config_of(), out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("long" * 100)):
        with pytest.raises(ConfigError, match="cannot be written: "):
            Session(config_of(), out=path)


# What is refused.


@pytest.mark.parametrize(
    ("method", "place"),
    [
        (compressed({"kind": "top-k", "k": 9}), "method.compressor.k"),
        (compressed({"kind": "rand-k", "k": 10**6}), "method.compressor.k"),
        (
            compressed({"kind": "s-top-k", "k": 1, "segment_size": 9}),
            "method.compressor.segment_size",
        ),
        (
            compressed({"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 9}}),
            "method.compressor.ladder.segment_size",
        ),
        (
            {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 9}},
            "method.compressor.k",
        ),
    ],
)
def test_more_entries_than_the_model_has_are_refused(method: Any, place: str) -> None:
    with pytest.raises(ConfigError, match=f"^{place} is [0-9]+, and the model has 8 parameters"):
        Session(config_of(method))


def test_more_segments_than_the_model_has_are_refused() -> None:
    method = compressed({"kind": "s-top-k", "k": 4, "segment_size": 3})
    with pytest.raises(ConfigError) as caught:
        Session(config_of(method))
    assert str(caught.value) == (
        "method.compressor.k is 4, and 8 parameters are 3 segments of segment_size 3: give at most "
        "that many"
    )
    with Session(config_of(method), overrides=["method.compressor.k=3"]) as session:
        session.run(1)


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ({"kind": "pp-marina", "compressor": "perm-k", "participants": 4}, "method.participants"),
        ({"kind": "dasha-pp", "compressor": "perm-k", "participants": 4}, "method.participants"),
        ({"kind": "partial-participation", "method": "sgd", "participants": 4}, "method.part.*"),
        ({"kind": "tamuna", "participants": 4, "step_size": 0.1}, "method.participants"),
        ({"kind": "compressed-scaffnew", "senders": 4, "step_size": 0.1}, "method.senders"),
    ],
)
def test_more_workers_than_there_are_are_refused(method: Any, place: str) -> None:
    with pytest.raises(ConfigError, match=f"^{place} is 4, and there are 3 workers: give at most"):
        Session(config_of(method, optimizer=None if "step_size" in method else SGD))


@pytest.mark.parametrize("name", ["compute_s", "message_s"])
def test_as_many_speeds_as_workers_are_asked_for(name: str) -> None:
    seconds = {"compute_s": 1.0, "message_s": 1.0, name: [1.0, 2.0]}
    method = {"kind": "shadowheart", "compressor": "perm-k", "noise": 1, **seconds}
    with pytest.raises(ConfigError, match=f"^method.{name} has 2 numbers, and there are 3 workers"):
        Session(config_of(method))


def test_edge_layers_that_leave_nothing_are_refused() -> None:
    method = {"kind": "learned", "k": 2, "edge_layers": 2}
    with pytest.raises(ConfigError, match=r"^method: edge_layers is 2, and the model has 1 p"):
        Session(config_of(method))


def test_as_many_entries_as_the_model_has_are_allowed() -> None:
    with Session(config_of(compressed({"kind": "top-k", "k": 8}))) as session:
        session.run(1)


def test_a_law_that_does_not_fit_the_ladder_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"method\.compressor: law 'own': this ladder has no"):
        Session(config_of(compressed({**MLMC_S_TOP_K, "law": "own"})))
    given = compressed({**MLMC_S_TOP_K, "law": {"kind": "given", "values": [0.5, 0.5]}})
    with Session(config_of(given)) as session, pytest.raises(RoundError, match="has 3 levels"):
        session.run()


def test_a_gradient_that_is_not_finite_ends_the_run_with_its_name() -> None:
    with (
        Session(regression(options={"nan_worker": 2})) as session,
        pytest.raises(NonFiniteError, match=r"round 0: worker 2: .* first in layer 4\.bias"),
    ):
        session.run()


def test_divergence_ends_the_run(tmp_path: Path) -> None:
    config = config_of(optimizer={"kind": "sgd", "step_size": 1e30}, rounds=50)
    with (
        Session(config, out=tmp_path) as session,
        pytest.raises((RoundError, NonFiniteError), match=r"^round [1-9].*lower the step size"),
    ):
        session.run()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(len(lines)))


def test_workers_must_fit_the_problem() -> None:
    with pytest.raises(ProblemError, match="num_functions is 3 and there are 2 workers"):
        Session(config_of(workers=2))
    with pytest.raises(ProblemError, match="48 examples cannot be dealt to 49 workers"):
        Session(regression(workers=49))
