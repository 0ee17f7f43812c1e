"""Sessions that are changed, branched and paused between rounds."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from launch import Session
from launch.callbacks import Callback
from launch.configuration.catalogue import KINDS
from launch.metrics import Metrics
from mlmc_ray.compressors import TopK
from mlmc_ray.errors import ClusterError, ConfigError, ProblemError
from mlmc_ray.methods import EF21SGDM, Method
from mlmc_ray.rounds import RoundResult
from tests.launch.same_runs import EF21, RAND_K, TOP_K, config_of
from tests.launch.test_ray_methods import METHODS

CLOCK = {"compute_s": [1, 2, 3, 4], "uplink_s": 0.5, "jitter": 0.2}
ASYNCHRONOUS = {
    "async-sgd": {"compressor": RAND_K, "policy": "drop", "max_staleness": 9},
    "rennala": {"compressor": RAND_K, "batch": 2},
}


def inline(method: Any, **changes: Any) -> dict[str, Any]:
    return config_of(method, 1, engine="inline", **changes)


def timeless(metrics: list[Metrics]) -> list[Metrics]:
    return [{**values, "seconds": 0} for values in metrics]


@pytest.mark.parametrize("kind", [*METHODS, *ASYNCHRONOUS])
def test_a_branch_goes_on_as_the_run_would(kind: str) -> None:
    """So the state of an engine holds all that a run remembers."""
    method = {"kind": kind, **{**METHODS, **ASYNCHRONOUS}[kind]}
    clock = {"clock": CLOCK} if KINDS[Method][kind].asynchronous else {}
    with Session(inline(method, rounds=7, **clock)) as session:
        session.run(3)
        with session.branch("the same") as branch:
            session.run(4)
            branch.run(4)
            assert torch.equal(branch.parameters(), session.parameters())
            assert branch.ledger == session.ledger
            assert timeless(branch.metrics) == timeless(session.metrics)


def test_the_kinds_are_all() -> None:
    timed = {kind for kind, method in KINDS[Method].items() if method.timed}  # on Ray only
    assert {*METHODS, *ASYNCHRONOUS} == set(KINDS[Method]) - timed


def test_a_branch_leaves_the_run_as_it_is() -> None:
    with Session(inline(EF21)) as session, Session(inline(EF21)) as alone:
        session.run(2)
        with session.branch("other", ["method.compressor.k=20"]) as branch:
            branch.run(3)
        session.run(3)
        alone.run(5)
        assert torch.equal(session.parameters(), alone.parameters())
        assert branch.metrics[:3] == session.metrics[:3]
        assert branch.metrics[3]["uplink_bytes"] > session.metrics[3]["uplink_bytes"]


def test_another_compressor_keeps_what_the_method_remembers() -> None:
    notes: list[str] = []
    with Session(inline(EF21), on_note=notes.append) as session:
        session.run(2)
        before = session.past().state
        session.change(method=EF21SGDM(compressor=TopK(k=9), momentum=0.5))
        after = session.past().state
        assert before.servers[0]["half"].keys() == after.servers[0]["half"].keys() != set()
        for name, tensor in before.servers[0]["half"].items():
            assert torch.equal(tensor, after.servers[0]["half"][name])
        assert len(before.servers[0]["optimizer"]) == len(after.servers[0]["optimizer"]) == 1
        session.run(1)
    assert notes == []


def test_another_method_starts_anew_and_says_so() -> None:
    notes: list[str] = []
    with Session(inline(EF21), on_note=notes.append) as session:
        session.run(2)
        parameters = session.parameters()
        session.change(method={"kind": "diana", "compressor": RAND_K}, optimizer="adamw")
        assert torch.equal(session.parameters(), parameters)
        assert not session.past().state.servers[0]["half"]["shift"].any()
        session.run(2)
        assert session.round_index == 4
    assert notes == [
        "the memory of the method starts anew, on the server and on every worker",
        "the memory of the optimizer starts anew",
    ]


def test_other_numbers_of_workers_get_the_statistics_and_the_data() -> None:
    with Session(inline("sgd", batch_size="full")) as session:
        session.run(2)
        session.scale_to(6)
        session.run(2)
        session.scale_to(2)
        session.run(2)
        by_round = [
            {entry.worker_id for entry in session.ledger if entry.round_index == index}
            for index in range(6)
        ]
        statistics = session.model_state()["1.running_mean"]
    assert by_round == [set(range(n)) for n in (4, 4, 6, 6, 2, 2)]
    assert statistics.any()


def test_reports_on_their_way_are_dropped_with_a_word() -> None:
    notes: list[str] = []
    method = {"kind": "async-sgd", **ASYNCHRONOUS["async-sgd"]}
    with Session(inline(method, clock=CLOCK), on_note=notes.append) as session:
        session.run(3)
        session.change(["method.max_staleness=3"])
        session.run(3)
    assert "3 reports on their way are dropped" in notes


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": 5}, "seed has changed: a run keeps its seed"),
        ({"problem": "digits"}, "problem has changed"),
        ({"problem": {"batch_norm": False}}, "29 parameters instead of 37"),
        ({"clock": CLOCK}, "clock has changed"),
        ({"workers": 1000}, "worker"),
        ({"workerss": 5}, "workerss.*did you mean 'workers'"),
        ({"method": {"kind": "marina", "compressor": TOP_K}}, "unbiased"),
    ],
)
def test_a_change_that_cannot_be_leaves_the_session_usable(
    change: dict[str, Any], text: str
) -> None:
    with Session(inline(EF21)) as session:
        session.run(1)
        before = session.config
        with pytest.raises((ConfigError, ProblemError), match=text):
            session.change(**change)
        assert session.config == before
        session.run(4)
        with Session(inline(EF21)) as other:
            other.run(1)
            other.run(4)
            assert torch.equal(session.parameters(), other.parameters())


def test_an_engine_that_cannot_begin_is_not_taken() -> None:
    with Session(inline(EF21)) as session:
        session.run(1)
        with pytest.raises(ClusterError):
            session.change(engine="ray", address="127.0.0.1:1")
        session.run(1)
        assert session.config.engine == "inline"


def test_functions_follow_the_workers() -> None:
    problem = {"kind": "quadratic", "num_functions": 8, "dim": 5}
    notes: list[str] = []
    with Session(
        inline("sgd", problem=problem, workers=8, optimizer={"kind": "sgd", "step_size": 0.01}),
        on_note=notes.append,
    ) as session:
        session.run(2)
        session.scale_to(3)
        session.run(2)
        assert {entry.worker_id for entry in session.ledger if entry.round_index == 3} == {0, 1, 2}
    assert notes == ["the problem has changed: measures before and after are not of the same"]


def test_controls_that_mean_something_else_start_anew() -> None:
    """With an l1 norm they sum to something; without it such a sum would stay for ever."""
    problem = {"kind": "quadratic", "num_functions": 4, "dim": 5, "largest": 2.0}
    method = {"kind": "scaffnew", "step_size": 0.5, "probability": 0.5, "l1": 0.5}
    with Session(inline(method, problem=problem, batch_size="full")) as session:
        session.run(30)
        session.change(["method.l1=0"])
        session.run(200)
        assert session.evaluate()["squared_distance"] < 1e-8


def test_mappings_are_merged_as_on_the_command_line() -> None:
    with Session(inline({**EF21, "momentum": 0.5})) as session:
        session.change(method={"compressor": {"k": 9}})
        assert session.config.method == EF21SGDM(compressor=TopK(k=9), momentum=0.5)
        session.change(optimizer={"step_size": 0.125})
        assert session.config.optimizer is not None
        assert session.config.optimizer.step_size == 0.125
        assert type(session.config.optimizer).__name__ == "Adam"


def test_slips_of_the_pen_are_explained() -> None:
    with pytest.raises(ConfigError, match=r"overrides is 'rounds=3': give a list, \['rounds=3'\]"):
        Session(inline(EF21), overrides="rounds=3")
    with (
        Session(inline(EF21)) as session,
        pytest.raises(ConfigError, match="rounds is -1: give how many to run"),
    ):
        session.run(-1)


def test_a_branch_has_callbacks_of_its_own() -> None:
    told: list[str] = []

    class Listener(Callback):
        def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
            told.append(session.config.name)

    with (
        Session(inline(EF21, name="first"), callbacks=Listener()) as session,
        session.branch("second") as silent,
        session.branch("third", callbacks=[Listener()]) as branch,
    ):
        for one in (session, silent, branch):
            one.run(1)
    assert told == ["first", "third"]


def test_names_can_be_changed_too() -> None:
    with Session(inline(EF21, name="first")) as session:
        session.change(["method.momentum=0.5"])
        assert session.config.name == "first"
        session.change(["name=second"])
        assert session.config.name == "second"
        with session.branch("third: #1", ["method.momentum=0.25"]) as branch:
            assert branch.config.name == "third: #1"


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_run_moves_to_ray_and_back_and_stays_the_same() -> None:
    with Session(inline(EF21, rounds=6)) as moving, Session(inline(EF21, rounds=6)) as staying:
        moving.run(2)
        moving.change(engine="ray", actors=2)
        moving.run(1)
        with pytest.raises(ProblemError):
            moving.change(workers=1000)
        moving.change(["batch_size=4"])  # the actors stay, and so does all they remember
        moving.change(["batch_size=5"])
        moving.run(1)
        moving.change(engine="inline")
        moving.run(2)
        staying.run(2)
        staying.run(2)
        staying.run(2)
        assert torch.equal(moving.parameters(), staying.parameters())
        assert moving.ledger == staying.ledger
        assert {work.host for work in moving.work} == {0, 1}


def test_a_paused_run_goes_on() -> None:
    with Session(inline("sgd")) as session:

        def stop(metrics: Metrics) -> None:
            if metrics["round"] == 2:
                session.pause()

        session.run(on_round=stop)
        assert session.round_index == 2
        session.run()
        assert session.round_index == 5


def test_a_directory_tells_of_changes(tmp_path: Path) -> None:
    with Session(inline(EF21), out=tmp_path / "run") as session:
        session.run(2)
        session.change(workers=2)
        session.run(1)
        with session.branch("b", ["batch_size=3"], out=tmp_path / "branch") as branch:
            branch.run(1)
    (change,) = lines(tmp_path / "run" / "changes.jsonl")
    assert change == {"round": 2, "changes": {"workers": 2}}
    (branching,) = lines(tmp_path / "branch" / "changes.jsonl")
    assert branching == {"round": 3, "changes": {"name": "b", "batch_size": 3}}
    for file in ("metrics.jsonl", "observed.jsonl"):
        whole = lines(tmp_path / "branch" / file)
        assert whole[: len(lines(tmp_path / "run" / file))] == lines(tmp_path / "run" / file)
    assert [m["round"] for m in lines(tmp_path / "branch" / "metrics.jsonl")] == [0, 1, 2, 3, 4]
    rows = (tmp_path / "branch" / "ledger.csv").read_text().splitlines()
    assert len(rows) == 1 + len(branch.ledger)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]
