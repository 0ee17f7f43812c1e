"""What inputs are made of: frames, checkpoints and configurations as the project writes them."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgpack
import yaml

from launch import Session
from launch.checkpoints.frame import Piece
from launch.checkpoints.shelf import Shelf
from launch.configuration.yaml_text import load_yaml
from mlmc_ray.compressors import Context
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from mlmc_ray.wire.bundles import Bundle, encode_bundle
from tests.mlmc_ray.cases import ALL_COMPRESSORS, GOLDEN
from tests.mlmc_ray.golden_frames import BUNDLES, MESSAGES, golden
from tests.mlmc_ray.test_methods import METHODS, run_of
from tests.pages import PAGES, ROOT, blocks_of

_ROUNDS = 2  # of every method
_RUNS: list[dict[str, Any]] = [
    {"method": {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 2}}},
    {
        "method": {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 2}},
        "optimizer": {"kind": "adam", "step_size": 0.01},
        "downlink": "relay",
    },
    {"method": "sgd", "servers": 2, "observe_every": 1, "clock": {"compute_s": 1}},
]
_FILLED_IN: dict[str, Any] = {  # in blocks of the documentation
    "problem": "digits",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.1},
}


@cache
def frames() -> tuple[bytes, ...]:
    """Golden frames, those of rounds of every method, and one of every compressor."""
    golden_ones = [golden(name) for name in MESSAGES]
    compressed = [
        encode(Message({"x": compressor.compress(GOLDEN, generator=generator_for(index))}))
        for index, compressor in enumerate(ALL_COMPRESSORS)
    ]
    return tuple(dict.fromkeys([*golden_ones, *_of_methods(), *compressed]))


def _of_methods() -> Iterator[bytes]:
    for method in METHODS:
        run = run_of(method)
        told: list[Message] = []
        make = run.server.news

        def news(*, context: Context, make: Any = make, told: list[Message] = told) -> News:
            found: News = make(context=context)
            told += [found] if isinstance(found, Message) else list(found.values())[:2]
            return found

        run.server.news = news  # type: ignore[method-assign]
        for _ in range(_ROUNDS):
            run.round()
            yield from (encode(report) for report in list(run.reports.values())[:2])
        yield from map(encode, told)


@cache
def bundles() -> tuple[bytes, ...]:
    """Relayed rounds: the golden ones, and some of frames."""
    made = [
        Bundle(since=since, rounds=({0: frame, 3: frame}, {}, {1: frame}), digest=digest)
        for since, frame in enumerate(frames()[:20])
        for digest in (None, bytes(8))
    ]
    return tuple([*map(golden, BUNDLES), *map(encode_bundle, made)])


class Memory:
    """Files by name, in memory."""

    place = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def names(self) -> list[str]:
        return list(self.files)

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, pieces: Sequence[Piece]) -> None:
        self.files[name] = b"".join(pieces)

    def delete(self, name: str) -> None:
        self.files.pop(name, None)


@cache
def checkpoints() -> tuple[bytes, ...]:
    """The files of some runs, each as a msgpack map from names to bytes, the snapshot last."""
    return tuple(msgpack.packb(_files_of(run)) for run in _RUNS)


def _files_of(run: dict[str, Any]) -> dict[str, bytes]:
    config = {
        "problem": {"kind": "quadratic", "num_functions": 2, "dim": 8},
        "workers": 2,
        "engine": "inline",
        "optimizer": {"kind": "sgd", "step_size": 0.01, "momentum": 0.5},
        **run,
    }
    store = Memory({})
    shelf = Shelf(store)
    with Session(config) as session:
        for rounds in (3, 1):
            session.run(rounds)
            shelf.write(session.config, session._engine.state(), session._history)
    shelf.clear(1)
    names = sorted(set(store.files) - {"owner"})
    return {name: store.files[name] for name in names}


@cache
def configurations() -> tuple[bytes, ...]:
    """The texts of files and of blocks in the documentation."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("configs/*.yaml"))]
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "yaml":
                given = load_yaml(block.text) or {}
                lacking = {name: _FILLED_IN[name] for name in _FILLED_IN if name not in given}
                texts.append(block.text + (yaml.safe_dump(lacking) if lacking else ""))
    return tuple(dict.fromkeys(text.encode() for text in texts))
