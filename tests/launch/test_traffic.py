"""What every method sends in its first rounds: each frame, both ways, reckoned by hand.

Four workers and 60 parameters. docs/wire.md gives the bytes; a frame is an array of three: array
and version, 2; a map of payloads, 1, and of each its name, 1 + length, and itself; a map of
scalars, 1, and of each its name, 1 + length, and 9 for a float64. Payloads:

    n float32 numbers  array, kind, format 3; values 2 + 4 n
    top-k, k=2         array, kind, dim 3; two gaps below 60 take 9 to 16 bits, so indices 2 + 1 for
                       the mode + 2; format 1; values 2 + 8
    rand-k, k=4        array, kind, dim 3; seed 9; format 1; values 2 + 16
    perm-k             array, kind, dim 3; seed 9; blocks and block 2; format 1; values 2 + 4 * 15
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launch import Session
from launch.configuration.catalogue import KINDS
from mlmc_ray.methods import Method
from mlmc_ray.methods.learned.autoencoder import num_weights
from mlmc_ray.payloads import Message
from mlmc_ray.wire import decode

ROOT = Path(__file__).parents[2]
EVERYONE = (0, 1, 2, 3)
TOP, RAND, PERM = 3 + 5 + 1 + 10, 3 + 9 + 1 + 18, 3 + 9 + 2 + 1 + 62
TOP_K, RAND_K = {"kind": "top-k", "k": 2}, {"kind": "rand-k", "k": 4}


def numbers(count: int) -> int:
    return 3 + 2 + 4 * count


def frame(*scalars: str, **payloads: int) -> int:
    names = sum(1 + len(name) for name in (*payloads, *scalars))
    return 2 + 1 + 1 + names + sum(payloads.values()) + 9 * len(scalars)


@dataclass(frozen=True)
class Exchange:
    """What each of the workers that are asked gets, and what each answers: one size, or by worker.

    Those that answer are the same, if not given.
    """

    down: int
    up: int | dict[int, int]
    asked: Iterable[int] = EVERYONE
    answering: Iterable[int] | None = None


DENSE = numbers(60)
NEWS = frame(parameters=DENSE)
GRADIENT = Exchange(NEWS, frame(gradient=DENSE))
CHANGE = Exchange(NEWS, frame(change=RAND))
COMPRESSED = {"compressor": RAND_K}

# What seed 0 draws. A coin of probability 1/2 for gradients shows heads in the rounds 1 and 3, and
# for the downlink in round 3. Of four workers these two are asked, by round.
TWO = [(0, 1), (1, 3), (0, 2), (2, 3)]


def partly(asked: Iterable[int]) -> Exchange:
    return Exchange(frame(parameters=DENSE, previous=DENSE), frame(change=RAND), asked)


def of_each(*up: int) -> dict[int, int]:
    return dict(enumerate(up))


def every_round(down: int, up: int) -> list[list[Exchange]]:
    return [[Exchange(down, up)]] * 3


# By kind: its settings, and for each of the first rounds its exchanges.
Rounds = list[list[Exchange]]
TRAFFIC: dict[str, tuple[dict[str, Any], Rounds]] = {
    "sgd": ({}, [[GRADIENT]] * 3),
    "compressed-sgd": (COMPRESSED, every_round(NEWS, frame(gradient=RAND))),
    "ef": ({"compressor": TOP_K}, every_round(NEWS, frame(corrected=TOP))),
    "ef21-sgdm": ({"compressor": TOP_K}, every_round(NEWS, frame(change=TOP))),
    "ef-bv": ({"compressor": TOP_K}, every_round(NEWS, frame(difference=TOP))),
    "diana": (COMPRESSED, every_round(NEWS, frame(difference=RAND))),
}

# Where a worker's own coin shows heads, it sends its change as well.
SHIFT, MOVE = frame(difference=RAND), frame(difference=RAND, change=DENSE)
TRAFFIC["rand-diana"] = (
    {**COMPRESSED, "p": 0.5},
    [
        [Exchange(NEWS, of_each(MOVE, MOVE, MOVE, SHIFT))],
        [Exchange(NEWS, of_each(MOVE, SHIFT, MOVE, SHIFT))],
        [Exchange(NEWS, of_each(MOVE, MOVE, SHIFT, SHIFT))],
    ],
)
TRAFFIC["adiana"] = (
    COMPRESSED,
    every_round(frame(point=DENSE, anchor=DENSE), frame(at_point=RAND, at_anchor=RAND)),
)
DIFFERENCE = Exchange(NEWS, frame(difference=RAND))
TRAFFIC["svrg"] = ({**COMPRESSED, "refresh": 2}, [[GRADIENT], [DIFFERENCE], [GRADIENT]])

TOSSED = [[GRADIENT], [GRADIENT], [CHANGE], [GRADIENT]]
ONCE = [[GRADIENT], [CHANGE], [CHANGE]]
TRAFFIC |= {
    "marina": ({**COMPRESSED, "p": 0.5}, TOSSED),
    "vr-marina": ({**COMPRESSED, "p": 0.5}, TOSSED),
    "pp-marina": (
        {**COMPRESSED, "p": 0.5, "participants": 2},
        [[GRADIENT], [GRADIENT], [partly(TWO[2])], [GRADIENT]],
    ),
    "dasha": (COMPRESSED, ONCE),
    "dasha-page": ({**COMPRESSED, "p_page": 0.5}, ONCE),
    "dasha-mvr": ({**COMPRESSED, "noise_momentum": 0.5}, ONCE),
    "dasha-sync-mvr": ({**COMPRESSED, "p": 0.5}, TOSSED),
    "dasha-pp": (
        {**COMPRESSED, "participants": 2},
        [[GRADIENT], [partly(TWO[1])], [partly(TWO[2])], [partly(TWO[3])]],
    ),
}

UP = frame(gradient=DENSE)
LESS, BLOCK = frame(change=TOP), frame(change=PERM)
TRAFFIC |= {
    "ef21-p": ({"downlink": TOP_K}, [[GRADIENT], [Exchange(LESS, UP)], [Exchange(LESS, UP)]]),
    "ef21-p-diana": (
        {**COMPRESSED, "downlink": TOP_K},
        [[DIFFERENCE], [Exchange(LESS, SHIFT)], [Exchange(LESS, SHIFT)]],
    ),
    "ef21-bc": (
        {"compressor": TOP_K, "downlink": TOP_K, "step_size": 0.01},
        [[Exchange(NEWS, LESS), Exchange(LESS, LESS)], [Exchange(LESS, LESS)]],
    ),
    "marina-p": (
        {"downlink": "perm-k", "p": 0.5},
        [[GRADIENT], [Exchange(BLOCK, UP)], [Exchange(BLOCK, UP)], [GRADIENT]],
    ),
    "m3": (
        {**COMPRESSED, "downlink": "perm-k", "p": 0.5, "downlink_p": 0.5},
        [[GRADIENT], [Exchange(BLOCK, UP)], [Exchange(BLOCK, frame(change=RAND))], [GRADIENT]],
    ),
}

# Everyone gets the second anchor in round 2, when the first has ended, and its number with it.
AWAY, NUMBERED = frame(correction=TOP), frame("anchor", gradient=RAND)
ANCHORS = {"anchor": RAND_K, "correction": TOP_K, "anchor_rounds": 2, "anchors_alive": 1}
TRAFFIC["docofl"] = (
    {**COMPRESSED, **ANCHORS},
    [
        [Exchange(NEWS, NUMBERED)],
        [Exchange(AWAY, NUMBERED)],
        [Exchange(frame("anchor", correction=TOP, anchor=RAND), NUMBERED)],
        [Exchange(AWAY, NUMBERED)],
    ],
)

# The layers of this problem are 4 x 3, 4, 2 x 4, 2, 1 x 2 and 1. With rank 1 the first matrix has P
# of 4 and Q of 3 numbers, the second of 2 and 4; the other 4 + 2 + 2 + 1 entries are sent whole.
PROJECTED = frame(left=numbers(6), whole=numbers(9))
SECOND = Exchange(frame(left=numbers(6)), frame(right=numbers(7)))
LATER = Exchange(frame(parameters=numbers(29), right=numbers(7)), PROJECTED)
TRAFFIC["power-sgd"] = (
    {"rank": 1},
    [[Exchange(frame(parameters=numbers(29)), PROJECTED), SECOND], [LATER, SECOND]],
)

# Two positions: array, kind, dim 3; indices 5 as for top-k; ones as codes: array, kind, dim, bucket
# 4; scale 2 + 4; codebook, low, alphabet 3; codes 2 + 0. The code is 4 numbers of 16 bits. An
# innovation is one number of two: array, kind, dim 3; index 2 + a mode and a bit in a byte; format
# 1; values 2 + 4. The weights have 3 bytes more than others before their size. The leader is the
# worker with the number of the round.
POSITIONS, CODE, INNOVATION = 3 + 5 + 15, 3 + 2 + 8, 3 + 4 + 1 + 6
WEIGHTS = 3 + numbers(100_748)
SAID = ("phase", "leader")
EMPTY = frame()
ANSWER = frame("scale", "lost", "alternative", innovation=INNOVATION)
LEADS, ENCODES = frame(positions=POSITIONS), frame(positions=POSITIONS, code=CODE)
TRAFFIC["learned"] = (
    {"k": 2, "dense_rounds": 1, "training_rounds": 1, "edge_layers": 0},
    [
        [Exchange(frame(*SAID, parameters=DENSE), UP)],
        [
            Exchange(frame(*SAID, parameters=DENSE), of_each(EMPTY, LEADS, EMPTY, EMPTY)),
            Exchange(frame(*SAID, positions=POSITIONS), frame(values=numbers(2))),
        ],
        [
            Exchange(
                frame(*SAID, parameters=DENSE, weights=WEIGHTS),
                of_each(EMPTY, EMPTY, ENCODES, EMPTY),
            ),
            Exchange(frame(*SAID, positions=POSITIONS, code=CODE), ANSWER),
        ],
    ],
)

# Of compressed-scaffnew 2 of 4 workers send an entry, of tamuna 2 of 3.
ENTRIES = frame(entries=numbers(2 * 60 // 3))
STEPS = {"step_size": 0.01, "probability": 0.5}
TRAFFIC |= {
    "local-sgd": (
        {**COMPRESSED, "local_step_size": 0.01, "local_steps": 2},
        every_round(NEWS, frame(change=RAND)),
    ),
    "scaffnew": (STEPS, every_round(NEWS, frame(entries=DENSE))),
    "compressed-scaffnew": (STEPS, every_round(NEWS, frame(entries=numbers(2 * 60 // 4)))),
    "tamuna": (
        {**STEPS, "participants": 3},
        [
            [Exchange(NEWS, ENTRIES, asked), Exchange(ENTRIES, EMPTY, asked)]
            for asked in ((0, 1, 2), (0, 2, 3), (1, 2, 3))
        ],
    ),
}

ON_TIME = frame(corrected=TOP)
TRAFFIC["coco-ef"] = (
    {"compressor": TOP_K, "straggling": 0.5},
    [
        [Exchange(NEWS, EMPTY)],
        [Exchange(NEWS, of_each(EMPTY, ON_TIME, EMPTY, ON_TIME))],
        [Exchange(NEWS, of_each(ON_TIME, ON_TIME, EMPTY, ON_TIME))],
    ],
)
TRAFFIC["partial-participation"] = (
    {"method": {"kind": "compressed-sgd", **COMPRESSED}, "participants": 2},
    [[Exchange(NEWS, frame(gradient=RAND), asked)] for asked in TWO],
)

# A gradient takes the workers 1, 1.5, 10 and 10 seconds, so reports arrive at 1 (of worker 0), 1.5
# (1), 2 (0), 3 (0) and 3 (1). Whoever has reported gets news. Rennala takes two a step: in its
# second step that of time 2 is stale, and two more are awaited.
CLOCK = {"compute_s": [1, 1.5, 10, 10]}
VERSION, TAGGED = frame("version", parameters=DENSE), frame("version", gradient=RAND)


def arrivals(*workers: int) -> list[Exchange]:
    """Return exchanges that each ask those that reported in the one before, at first everyone."""
    asked = [EVERYONE, *((i,) for i in workers)]
    pairs = zip(asked, workers, strict=False)
    return [Exchange(VERSION, TAGGED, before, (i,)) for before, i in pairs]


ARRIVALS = arrivals(0, 1, 0, 0, 1)
TRAFFIC["async-sgd"] = (COMPRESSED, [[exchange] for exchange in ARRIVALS[:4]])
TRAFFIC["rennala"] = ({**COMPRESSED, "batch": 2}, [ARRIVALS[:2], ARRIVALS[2:]])

# A sum of three messages: array, kind, parts, and three. The slow worker is left out.
SUM = Exchange(frame("gradients", "messages", parameters=DENSE), frame(sum=3 + 3 * RAND), (0, 1, 2))
SPEEDS = {"compute_s": [1, 1, 1, 100], "message_s": 1, "noise": 1, "max_messages": 3}
TRAFFIC["shadowheart"] = ({**COMPRESSED, **SPEEDS}, [[SUM], [SUM]])


def config_of(kind: str) -> dict[str, Any]:
    settings, rounds = TRAFFIC[kind]
    optimizer = {"optimizer": {"kind": "sgd", "step_size": 0.01}}
    quadratic = {"kind": "quadratic", "num_functions": 4, "dim": 60}
    return {
        "problem": {"power-sgd": "tests.tasks.Regression"}.get(kind, quadratic),
        "search_paths": [str(ROOT)],
        "method": {"kind": kind, **settings},
        **({} if KINDS[Method][kind].moves_parameters else optimizer),
        **({"clock": CLOCK} if KINDS[Method][kind].asynchronous else {}),
        "batch_size": 5,
        "rounds": len(rounds),
        "engine": "inline",
    }


def entries_of(rounds: Rounds) -> list[tuple[int, int, str, int]]:
    found = []
    for round_index, exchanges in enumerate(rounds):
        for exchange in exchanges:
            for i in exchange.asked:
                found.append((round_index, i, "downlink", exchange.down))
            for i in exchange.answering or exchange.asked:
                up = exchange.up if isinstance(exchange.up, int) else exchange.up[i]
                found.append((round_index, i, "uplink", up))
    return found


def test_the_list_is_complete() -> None:
    assert set(TRAFFIC) == {kind for kind, method in KINDS[Method].items() if not method.timed}


def test_sizes_in_numbers() -> None:
    assert (NEWS, UP, frame(gradient=RAND), LESS, BLOCK, EMPTY) == (260, 258, 44, 30, 88, 4)
    assert num_weights() == 100_748


def recording(names: set[str]) -> Callable[..., Message]:
    """Return a ``decode`` that collects the names in messages."""

    def recorded(frame: bytes, **limits: int) -> Message:
        message = decode(frame, **limits)
        names.update(message.payloads, message.scalars)
        return message

    return recorded


@pytest.mark.parametrize("kind", TRAFFIC)
def test_the_first_rounds_send_what_is_reckoned_by_hand(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    news: set[str] = set()
    reports: set[str] = set()
    monkeypatch.setattr("mlmc_ray.downlinks.copies.decode", recording(news))
    monkeypatch.setattr("server.server.decode", recording(reports))
    with Session(config_of(kind)) as session:
        session.run()
    assert [entry[:4] for entry in session.ledger] == entries_of(TRAFFIC[kind][1])
    method = session.config.method
    facts = getattr(method, "method", method).facts  # of partial participation, the method within
    assert (news, reports) == (set(facts.news), set(facts.reports))
