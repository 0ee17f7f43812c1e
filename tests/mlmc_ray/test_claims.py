"""What groups with shared thresholds ask for in few bytes."""

import time
from typing import Any

import msgpack
import pytest
import torch

from mlmc_ray.errors import WireError
from mlmc_ray.kernels.byte_reader import length_bytes
from mlmc_ray.payloads import Grouping, Message, SharedRoundingPayload, SumPayload
from mlmc_ray.payloads.grouping import MAX_LAYERS, MAX_TURNS
from mlmc_ray.wire import WIRE_VERSION, decode, encode
from mlmc_ray.wire.claims import FREE_STEPS, MAX_CLAIM, STEPS_A_BYTE
from mlmc_ray.wire.layer_runs import Asked, asked_of_groups

LONG = 1 << 18
ONE_ENTRY = (1, 1, 1, 0)


def layers_of(*runs: tuple[int, int, int, int]) -> bytes:
    return b"".join(
        length_bytes(number) + length_bytes(rows) + length_bytes(columns) + bytes([exponent])
        for number, rows, columns, exponent in runs
    )


def groups(
    dim: int, *runs: tuple[int, int, int, int], form: list[Any], counts: bytes = b"\x80"
) -> list[Any]:
    """Return the fields of a payload, of which groups are said but no directions given."""
    return [13, dim, 5, b"\0\0\x80\x3f", form, layers_of(*runs), counts, b""]


def frame_of(fields: list[Any], number: int) -> bytes:
    return bytes(msgpack.packb([WIRE_VERSION, {"x": [6, [fields] * number]}, {}]))


MUCH_FROM_LITTLE = {
    "turns": groups(1, ONE_ENTRY, form=[1, 3, 1, 0, MAX_TURNS]),
    "layers": groups(2000, (2000, 1, 1, 0), form=[1, 3, 1, 0, 1], counts=b"\x80" * 2000),
    "codebooks": groups(1 << 14, (1, 1, 1 << 14, 7), form=[12, 3, 1, 0, 1]),
    "blocks": groups(LONG, (1, 1, LONG, 0), form=[1, 3, 1, 0, 1]),
}


@pytest.mark.parametrize("fields", MUCH_FROM_LITTLE.values(), ids=MUCH_FROM_LITTLE)
def test_few_bytes_cannot_ask_for_many_draws(fields: list[Any]) -> None:
    for number in (1, 2, 50):  # the first compiles
        start = time.perf_counter()
        with pytest.raises(WireError) as caught:
            decode(frame_of(fields, number), max_dim=LONG)
        seconds = time.perf_counter() - start
    assert "say fewer vectors in a message" in str(caught.value)
    assert seconds < 1
    with pytest.raises(WireError, match=r"directions: expected"):  # one alone is welcome so far
        decode(frame_of(fields, 1), max_dim=LONG)


def test_more_bytes_may_ask_for_more_steps() -> None:
    fields = groups(1, ONE_ENTRY, form=[1, 3, 1, 0, MAX_TURNS])
    number = FREE_STEPS // asked_of_groups(1, fields[4], fields[5]).steps + 1
    with pytest.raises(WireError, match=r"ask for .* steps"):
        decode(frame_of(fields, number), max_dim=LONG)
    longer = [*fields[:7], bytes((1 << 24) // STEPS_A_BYTE * number)]
    with pytest.raises(WireError, match=r"x\[0\].directions: expected"):
        decode(frame_of(longer, number), max_dim=LONG)


@pytest.mark.parametrize(
    ("dim", "runs", "form", "asked"),
    [
        (60, [(1, 6, 10, 0)], [4, 3, 16, 0, 3], Asked(60 + 4 * 60 + 11 * 4, (1 << 17) + 6)),
        (20, [(2, 2, 5, 0)], [4, 3, 1, 0, 1], Asked(20 + 15 * 20, 2 * ((1 << 17) + 2))),
        (
            30,
            [(2, 3, 5, 2)],
            [4, 3, 16, 0, 1],
            Asked(30 + 15 * 8, 2 * ((1 << 17) + 2) + 8 * 16 + 2 * 64),
        ),
        (20, [(1, 1, 21, 0)], [4, 3, 16, 0, 1], Asked(0, 0)),
        (20, [(1, 1, 20, 8)], [4, 3, 16, 0, 1], Asked(0, 0)),
        (20, [(1, 1, 20, 0)], [13, 3, 16, 0, 1], Asked(0, 0)),
        (20, [(1, 1, 20, 0)], [4, 3, 0, 0, 1], Asked(0, 0)),
        (20, [(1, 1, 20, 0)], [4, 3, 16, 0, "1"], Asked(0, 0)),
        (-20, [], [4, 3, 16, 0, 1], Asked(0, 0)),
        (1 << 20, [(MAX_LAYERS + 1, 1, 1, 0)], [4, 3, 16, 0, 1], Asked(0, 0)),
    ],
)
def test_what_groups_ask_for(
    dim: int, runs: list[tuple[int, int, int, int]], form: list[Any], asked: Asked
) -> None:
    assert asked_of_groups(dim, form, layers_of(*runs)) == asked


def payload(dim: int, group_size: int, bits: int) -> SharedRoundingPayload:
    grouping = Grouping(
        shapes=((1, dim),),
        group_sizes=(group_size,),
        bits=bits,
        block=1,
        interleaved_entries=True,
        interleaved_groups=True,
    )
    one = torch.ones(1, dtype=torch.int64)
    return SharedRoundingPayload(grouping, 3, 1.0, 0 * one, one, 0 * one)


@pytest.mark.parametrize(("group_size", "bits"), [(1, 1), (2, 2), (4, 3), (128, 12)])
@pytest.mark.parametrize("dim", [1 << 14, 16_500])
def test_one_payload_is_always_welcome(dim: int, group_size: int, bits: int) -> None:
    message = Message({"x": payload(dim, group_size, bits)})
    assert decode(encode(message), max_dim=dim).payloads["x"].dim == dim


def test_the_writer_refuses_what_the_reader_would() -> None:
    many = SumPayload((payload(1 << 14, 1, 1),) * (MAX_CLAIM + 1))
    with pytest.raises(WireError, match="say fewer vectors in a message"):
        encode(Message({"x": many}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shapes": ()}, "0 layers in shapes: give 1 to 8192"),
        ({"shapes": ((1, 64),) * 2}, "1 group_sizes for 2 layers"),
        ({"shapes": ((0, 64),)}, "a side in shapes is 0: give a whole number, 1 to"),
        ({"shapes": ((1.5, 64),)}, "a side in shapes is 1.5"),
        ({"group_sizes": (3,)}, "a size in group_sizes is 3: give a power of two"),
        ({"group_sizes": (256,)}, "a size in group_sizes is 256: give a whole number, 1 to 128"),
        ({"bits": 0}, "bits is 0: give a whole number, 1 to 12"),
        ({"block": 0}, "block is 0: give a whole number, 1 to"),
        ({"worker_id": 1}, "worker 1 of 1"),
        ({"num_workers": MAX_TURNS + 1}, f"at most {MAX_TURNS} layers times workers"),
    ],
)
def test_impossible_groupings_are_refused(changed: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"shapes": ((1, 64),), "group_sizes": (1,), "bits": 3, "block": 1}
    with pytest.raises(ValueError, match=said):
        Grouping(interleaved_entries=True, interleaved_groups=True, **(given | changed))
