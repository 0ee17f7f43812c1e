"""Our entropy coder and those of others on the same symbols.

    python -m benchmarks.entropy_coders --json benchmarks/results/entropy_coders-MACHINE.json

The symbols are the codes of QSGD (4 levels, buckets of 512) and of TernGrad for one vector of
independent normal values. Ours is ``kernels.symbol_coding``. For comparison: the asymmetric
numeral systems of constriction, with the histogram as the model and four bytes counted for each of
its shares, of the symbols and of several joined to one as ours does; and zlib and Zstandard on one
byte a symbol.
"""

import importlib
import json
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console
from rich.table import Table

from launch.benching.measuring import machine
from mlmc_ray import __version__
from mlmc_ray.compressors import QSGD, TernGrad
from mlmc_ray.kernels.fixed_width import GROUPS, join, split
from mlmc_ray.kernels.histograms import count_symbols, entropy_bits
from mlmc_ray.kernels.symbol_coding import decode_symbols, encode_symbols
from mlmc_ray.payloads import CodesPayload

OTHERS = ("constriction", "zstandard")  # imported only where they are installed
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Symbols to encode.

    Attributes:
        name: of the compressor.
        symbols: shape (d,), uint8.
        alphabet: what the symbols are below.
    """

    name: str
    symbols: Bytes
    alphabet: int

    def entropy_bytes(self) -> float:
        """Return the empirical entropy of order zero, the histogram being free."""
        return entropy_bits(count_symbols(self.symbols, self.alphabet)) / 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Coder:
    """A way of encoding a stream.

    Attributes:
        name: with the version and level.
        encode: returns, for a stream, what is timed: it gives the bytes.
        decode: gives the symbols, of any integer dtype, from the stream's bytes.
    """

    name: str
    encode: Callable[[Stream], Callable[[], bytes]]
    decode: Callable[[bytes, Stream], npt.NDArray[Any]]


def streams(dim: int) -> list[Stream]:
    """Return the codes of two compressors for ``dim`` normal values."""
    vector = torch.from_numpy(np.random.default_rng(0).standard_normal(dim, dtype=np.float32))
    result = []
    for name, compressor in (("qsgd", QSGD(levels=4)), ("terngrad", TernGrad())):
        payload = compressor.compress(vector, generator=torch.Generator().manual_seed(0))
        assert isinstance(payload, CodesPayload)
        low, high = payload.range()
        symbols = (payload.codes - low).to(torch.uint8).numpy()
        result.append(Stream(name=name, symbols=symbols, alphabet=high - low + 1))
    return result


def coders(others: dict[str, ModuleType]) -> list[Coder]:
    """Return our coder, zlib, and those of ``others``."""
    result = [
        Coder(
            name=f"mlmc_ray {__version__}",
            encode=lambda stream: partial(encode_symbols, stream.symbols, stream.alphabet),
            decode=lambda data, stream: decode_symbols(data, len(stream.symbols), stream.alphabet),
        )
    ]
    if "constriction" in others:
        result += _coders_of_constriction(others["constriction"].stream)
    for level in (1, 6):
        name = f"zlib {zlib.ZLIB_RUNTIME_VERSION}, level {level}"
        result.append(_general(name, partial(zlib.compress, level=level), zlib.decompress))
    if "zstandard" in others:
        zstd = others["zstandard"]
        for level in (3, 9):
            name = f"zstandard {metadata.version('zstandard')}, level {level}"
            compressor = zstd.ZstdCompressor(level=level)
            decompressor = zstd.ZstdDecompressor()
            result.append(_general(name, compressor.compress, decompressor.decompress))
    return result


def _general(
    name: str, compress: Callable[[Bytes], bytes], decompress: Callable[[bytes], bytes]
) -> Coder:
    return Coder(
        name=name,
        encode=lambda stream: partial(compress, stream.symbols),
        decode=lambda data, _: np.frombuffer(decompress(data), dtype=np.uint8),
    )


def _coders_of_constriction(library: Any) -> list[Coder]:
    def model(counts: npt.NDArray[Any]) -> Any:
        return library.model.Categorical(counts, perfect=False)

    def encode(stream: Stream, group: int) -> bytes:
        symbols = join(stream.symbols, stream.alphabet, group) if group > 1 else stream.symbols
        counts = count_symbols(symbols, stream.alphabet**group).astype(np.float32)
        coder = library.stack.AnsCoder()
        coder.encode_reverse(symbols.astype(np.int32), model(counts))  # it takes no bytes
        return counts.tobytes() + bytes(coder.get_compressed().astype("<u4").tobytes())

    def decode(data: bytes, stream: Stream, group: int) -> npt.NDArray[Any]:
        counts = np.frombuffer(data, dtype=np.float32, count=stream.alphabet**group)
        words = np.frombuffer(data[counts.nbytes :], dtype="<u4").astype(np.uint32, copy=False)
        number = -(-len(stream.symbols) // group)
        symbols = np.asarray(library.stack.AnsCoder(words).decode(model(counts), number))
        if group == 1:
            return symbols
        return split(symbols.astype(np.uint8), stream.alphabet, group, len(stream.symbols))

    def joint(stream: Stream) -> int:
        return GROUPS.get(stream.alphabet, 1)

    name = f"constriction {metadata.version('constriction')}"
    return [
        Coder(
            name=name,
            encode=lambda stream: partial(encode, stream, 1),
            decode=partial(decode, group=1),
        ),
        Coder(
            name=f"{name}, joint",
            encode=lambda stream: partial(encode, stream, joint(stream)),
            decode=lambda data, stream: decode(data, stream, joint(stream)),
        ),
    ]


def measure(stream: Stream, candidates: list[Coder], repeats: int) -> dict[str, Any]:
    """Return sizes relative to the entropy, and times in copies of the float32 vector.

    The coders and the copy take turns, so that whatever else the machine does hits all alike; the
    least time of each counts.
    """
    works: dict[str, Callable[[], object]] = {
        "copy": np.zeros(len(stream.symbols), dtype=np.float32).copy
    }
    sizes = {}
    for coder in candidates:
        encode = coder.encode(stream)
        data = encode()
        np.testing.assert_array_equal(coder.decode(data, stream), stream.symbols)
        sizes[coder.name] = len(data)
        works[f"encode {coder.name}"] = encode
        works[f"decode {coder.name}"] = partial(coder.decode, data, stream)
    least = dict.fromkeys(works, math.inf)
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            least[name] = min(least[name], time.perf_counter() - start)
    rows = [
        {
            "name": name,
            "bytes": size,
            "over_entropy": round(size / stream.entropy_bytes(), 4),
            "encode_copies": round(least[f"encode {name}"] / least["copy"], 2),
            "decode_copies": round(least[f"decode {name}"] / least["copy"], 2),
        }
        for name, size in sizes.items()
    ]
    return {
        "name": stream.name,
        "entropy_bits_per_symbol": round(8 * stream.entropy_bytes() / len(stream.symbols), 4),
        "copy_ms": round(1e3 * least["copy"], 3),
        "coders": rows,
    }


def main(
    dim: Annotated[int, typer.Option(min=1, help="Entries of the vector.")] = 10_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each; the fastest counts.")] = 10,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Compare sizes and times, one thread, times in copies of the float32 vector."""
    torch.set_num_threads(1)
    console = Console()
    others = _installed(console)
    results = []
    for stream in streams(dim):
        results.append(measure(stream, coders(others), repeats))
        console.print(_table(results[-1]))
    if json_path is not None:
        settings = {"dim": dim, "repeats": repeats}
        report = {"machine": machine(), "settings": settings, "streams": results}
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        console.print(f"results: {json_path}", soft_wrap=True, highlight=False)


def _installed(console: Console) -> dict[str, ModuleType]:
    """Return those of ``OTHERS`` that can be imported, and say how to install the rest."""
    found = {}
    for name in OTHERS:
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            console.print(f"{name} is not installed and is left out: pip install {name}")
    return found


def _table(result: dict[str, Any]) -> Table:
    title = f"{result['name']}: {result['entropy_bits_per_symbol']} bits a symbol"
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("bytes", "over entropy", "encode, copies", "decode, copies"):
        table.add_column(column, justify="right")
    for row in result["coders"]:
        times = [f"{row[key]:.1f}" for key in ("encode_copies", "decode_copies")]
        table.add_row(row["name"], f"{row['bytes']:,}", f"{row['over_entropy']:.4f}", *times)
    return table


if __name__ == "__main__":
    typer.run(main)
