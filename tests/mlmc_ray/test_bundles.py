"""Relayed rounds on the wire: golden bytes, round trips, and hostile bytes."""

import contextlib
import struct
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mlmc_ray.errors import WireError
from mlmc_ray.wire import decode
from mlmc_ray.wire.bundles import Bundle, decode_bundle, digest_of, encode_bundle, is_bundle
from tests.mlmc_ray.golden_frames import BUNDLES, MESSAGES, golden

BUNDLE = BUNDLES["bundle"]
DIGEST = bytes(8)


def plain(bundle: Bundle) -> Any:
    return bundle.since, [dict(reports) for reports in bundle.rounds], bundle.digest


def test_a_bundle_has_the_golden_bytes() -> None:
    assert encode_bundle(BUNDLE).hex(" ") == golden("bundle").hex(" ")
    assert plain(decode_bundle(golden("bundle"))) == plain(BUNDLE)


def test_a_bundle_decodes_from_any_buffer() -> None:
    array = np.frombuffer(golden("bundle"), np.uint8)
    assert plain(decode_bundle(array.data)) == plain(BUNDLE)


def test_a_bundle_is_no_message_and_a_message_is_no_bundle() -> None:
    assert is_bundle(golden("bundle"))
    assert is_bundle(np.frombuffer(golden("bundle"), np.uint8).data)
    assert not any(is_bundle(golden(name)) for name in MESSAGES)
    assert not is_bundle(b"")
    with pytest.raises(WireError, match="expected 3 fields, got 4"):
        decode(golden("bundle"))
    with pytest.raises(WireError, match="frame: expected 4 fields, got 3"):
        decode_bundle(golden("zero"))


rounds_of_reports = st.lists(
    st.dictionaries(st.integers(0, (1 << 31) - 1), st.binary(max_size=20), max_size=4)
)


@given(
    since=st.integers(0, (1 << 31) - 1),
    rounds=rounds_of_reports,
    digest=st.none() | st.binary(min_size=8, max_size=8),
)
def test_bundles_survive(since: int, rounds: list[dict[int, bytes]], digest: bytes | None) -> None:
    assume(rounds or digest)
    bundle = Bundle(since=since, rounds=rounds, digest=digest)
    assert plain(decode_bundle(encode_bundle(bundle))) == plain(bundle)


def test_reports_are_in_worker_order_whoever_was_first() -> None:
    bundle = Bundle(since=0, rounds=[{7: b"b", 2: b"a"}], digest=None)
    assert list(decode_bundle(encode_bundle(bundle)).rounds[0].items()) == [(2, b"a"), (7, b"b")]


def test_many_short_reports_are_welcome() -> None:
    rounds = [dict.fromkeys(range(1000), b""), *[{}] * 1000]
    bundle = Bundle(since=0, rounds=rounds, digest=None)
    assert plain(decode_bundle(encode_bundle(bundle))) == plain(bundle)


def test_a_digest_differs_with_every_bit() -> None:
    parameters = torch.zeros(3)
    negative = parameters.clone()
    negative[1] = -0.0
    assert digest_of(parameters) == digest_of(torch.zeros(3))
    assert digest_of(parameters) != digest_of(negative)
    assert len(digest_of(parameters)) == 8


# Hostile bytes.


def decodes_or_is_refused(frame: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_bundle(frame)


def test_every_truncation_is_refused() -> None:
    frame = golden("bundle")
    for length in range(len(frame)):
        with pytest.raises(WireError, match="incomplete input"):
            decode_bundle(frame[:length])


def test_every_added_byte_is_refused() -> None:
    for byte in range(256):
        with pytest.raises(WireError, match="frame: 1 bytes are left behind the digest"):
            decode_bundle(golden("bundle") + bytes([byte]))


def test_every_changed_byte_is_refused_or_is_another_bundle() -> None:
    frame = golden("bundle")
    for place in range(len(frame)):
        for byte in range(256):
            decodes_or_is_refused(frame[:place] + bytes([byte]) + frame[place + 1 :])


@given(frame=st.binary(max_size=60))
def test_random_bytes_are_refused_or_decode(frame: bytes) -> None:
    decodes_or_is_refused(frame)
    decodes_or_is_refused(b"\x94\x02" + frame)


NESTED: Any = [[[[]]]]
NO_ARRAYS: list[Any] = [0, b"", None, "", {}]
NO_SCALARS: list[Any] = ["0", [1], {1: 2}]
NO_COUNT: list[Any] = [-1, 1 << 31, 0.0, True, None, b"\x00"]
NO_BYTES: list[Any] = [0, None, 1.0, True, []]
MALFORMED: dict[str, list[Any]] = {
    "frame: expected an array": [{}, 1, b"", None, "text", 2.0],
    "frame: expected 4 fields, got": [[], [2], [2, 0, [[]]], [2, 0, [[]], None, None]],
    "version: expected an integer from 2 to 2, got": [
        [version, 0, [[]], None] for version in (1, 3, 2.0, True, None, b"\x02")
    ],
    "since: expected an integer from 0": [[2, since, [[]], None] for since in NO_COUNT],
    "since: ": [[2, since, [[]], None] for since in [*NO_SCALARS, NESTED]],
    "rounds: expected an array": [[2, 0, rounds, None] for rounds in NO_ARRAYS],
    "rounds: expected at least one where there is no digest, got none": [[2, 0, [], None]],
    "reports: expected an array": [[2, 0, [rounds], None] for rounds in NO_ARRAYS],
    "reports: expected each with its worker, got": [[2, 0, [[0]], None], [2, 0, [[0] * 3], None]],
    "worker_id: expected an integer from 0": [
        [2, 0, [[worker, b""]], None] for worker in [*NO_COUNT, []]
    ],
    "worker_id: expected an integer from 4 to .*, got 3": [[2, 0, [[3, b"", 3, b""]], None]],
    "worker_id: expected an integer from 4 to .*, got 2": [[2, 0, [[3, b"", 2, b""]], None]],
    "worker_id: ": [[2, 0, [[worker, b""]], None] for worker in NO_SCALARS],
    "report: expected binary data": [[2, 0, [[0, report]], None] for report in NO_BYTES],
    "report: ": [[2, 0, [[0, report]], None] for report in NO_SCALARS],
    "digest: expected 8 bytes, got": [[2, 0, [[]], bytes(n)] for n in (0, 7, 9)],
    "digest: expected binary data": [[2, 0, [[]], digest] for digest in (0, False)],
    "digest: ": [[2, 0, [[]], digest] for digest in NO_SCALARS],
}


@pytest.mark.parametrize(
    ("text", "fields"), [(text, fields) for text, many in MALFORMED.items() for fields in many]
)
def test_a_malformed_field_is_refused_by_name(text: str, fields: Any) -> None:
    with pytest.raises(WireError, match=rf"^{text}"):
        decode_bundle(msgpack.packb(fields))


@pytest.mark.parametrize("extension", [b"\xd4\x05\x00", b"\xc7\x01\x05\x00", b"\xc1"])
def test_extension_types_are_refused(extension: bytes) -> None:
    with pytest.raises(WireError, match=r"^since: "):
        decode_bundle(b"\x94\x02" + extension + b"\x91\x90\xc0")


MOST = struct.pack(">I", (1 << 32) - 1)
CLAIMS = {
    "rounds": b"\x94\x02\x00\xdd" + MOST,
    "reports": b"\x94\x02\x00\x91\xdd" + struct.pack(">I", (1 << 32) - 2),
    "report": b"\x94\x02\x00\x91\x92\x00\xc6" + MOST,
    "nested": b"\x94\x02\x00\x91\x92\x00" + 1000 * (b"\xdd" + MOST),
    "many rounds": b"\x94\x02\x00\xdd" + MOST + 1000 * (b"\xdd" + MOST),
    "map": b"\x94\x02\xdf" + MOST,
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_huge_claim_allocates_nothing(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode_bundle(CLAIMS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18
