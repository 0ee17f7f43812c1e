"""What is seen in observed rounds, and how long workers take: in a session and in its directory."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from launch import Session
from tests.launch.same_runs import EF21, RAND_K, config_of
from tests.launch.test_ray_methods import METHODS

MLMC = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 20}}


def config(method: Any, **changes: Any) -> dict[str, Any]:
    return {**config_of(method, 2, engine="inline", observe_every=2), **changes}


@pytest.mark.parametrize("kind", METHODS)
def test_looking_changes_nothing_and_counts_every_byte(kind: str) -> None:
    method = {"kind": kind, **METHODS[kind]}
    with Session(config(method)) as seen, Session(config(method, observe_every=None)) as unseen:
        seen.run()
        unseen.run()
        assert torch.equal(seen.parameters(), unseen.parameters())
        assert seen.ledger == unseen.ledger
    assert unseen.observations == []
    assert [observation["round"] for observation in seen.observations] == [1, 3, 5]
    for observation in seen.observations:
        for direction in ("uplink", "downlink"):
            total = seen.ledger.frame_bytes(
                "uplink" if direction == "uplink" else "downlink",
                round_index=observation["round"] - 1,
            )
            parts = [p for p in observation["parts"] if p["direction"] == direction]
            assert sum(part["bytes"] for part in parts) == total
            by_layer = observation["layers"].get(direction, {}).values()
            assert sum(by_layer) <= total + len(by_layer)


def test_errors_and_levels_of_a_round() -> None:
    with Session(config({"kind": "compressed-sgd", "compressor": MLMC})) as session:
        session.run(3)
    first = session.observations[0]
    compressions = [c for seen in first["workers"].values() for c in seen]
    assert list(first["workers"]) == ["0", "1", "2", "3"]
    assert all(c["compressor"] == "MLMC" and c["levels"][0] in (1, 2) for c in compressions)
    errors = sum(c["squared_error"] for c in compressions)
    norms = sum(c["squared_norm"] for c in compressions)
    assert session.metrics[1]["relative_error"] == pytest.approx(errors / norms)
    assert "relative_error" not in session.metrics[2]


def test_layers_get_the_bytes_of_their_entries() -> None:
    """The first layer of weights has 12 of the 37 entries, of which rand-k sends 5."""
    with Session(config({"kind": "compressed-sgd", "compressor": RAND_K})) as session:
        session.run(1)
    layers = session.observations[0]["layers"]
    down = layers["downlink"]
    assert down["0.weight"] / sum(down.values()) == pytest.approx(12 / 37, abs=1e-3)
    parts = {(p["direction"], p["name"]): p["bytes"] for p in session.observations[0]["parts"]}
    up = layers["uplink"].values()
    assert sum(up) == pytest.approx(parts["uplink", "gradient"], abs=1)
    shares = Counter(round(value / sum(up) * 20, 6) for value in up)  # of 4 workers' 5 entries
    assert all(share == int(share) for share in shares)


def test_a_downlink_that_is_compressed_is_seen_too() -> None:
    with Session(config({"kind": "ef21-p", **METHODS["ef21-p"]})) as session:
        session.run(3)
    assert [c["compressor"] for c in session.observations[1]["workers"]["-1"]] == ["TopK"]
    assert session.metrics[3]["relative_error"] == 0  # workers send all of their gradients


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_ray_sees_the_same(tmp_path: Path) -> None:
    ends = []
    for engine in ("ray", "inline"):
        out = tmp_path / engine
        with Session(config(EF21, engine=engine), out=out) as session:
            session.run(3)
            ends.append(session)
        rows = list(csv.DictReader((out / "timeline.csv").read_text().splitlines()))
        assert [(int(r["round_index"]), int(r["worker_id"])) for r in rows] == [
            (work.round_index, work.worker_id) for work in session.work
        ]
        assert all(float(row["seconds"]) > 0 for row in rows)
        observed = (out / "observed.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in observed] == session.observations
    on_ray, in_one_process = ends
    assert on_ray.observations == in_one_process.observations
    assert {(work.worker_id, work.host) for work in on_ray.work} == {(i, i % 2) for i in range(4)}


def test_seconds_of_a_clock_are_its_own() -> None:
    clock = {"compute_s": [1, 2, 3, 4], "uplink_s": 0.5}
    with Session(config(EF21, clock=clock)) as session:
        session.run(2)
    assert [work.seconds for work in session.work] == [1.5, 2.5, 3.5, 4.5] * 2
