"""What the payloads of a frame ask for in few bytes.

A run of equal codes takes no bytes, whatever its length, and a payload of some bytes may ask for a
draw or a rotation of a long vector. So what a frame may ask for in all is bounded.
"""

from collections.abc import Iterator, Mapping

from mlmc_ray.errors import WireError
from mlmc_ray.wire.fields import MAX_DEPTH
from mlmc_ray.wire.layer_runs import Asked, asked_of_groups

MAX_CLAIM = 16
"""How many entries there may be for every entry of ``max_dim`` and for every byte of the frame."""
FREE_STEPS = 1 << 28
"""How many steps of drawing codebooks, turns and layers any frame may ask for: about 0.3 s."""
STEPS_A_BYTE = 1 << 12
"""How many more there may be for every byte of the frame."""


def check_claims(payloads: Mapping[str, object], max_dim: int, num_bytes: int) -> None:
    """Refuse payloads that ask for too much, before any of them is read.

    Args:
        payloads: their fields, by name; hostile.
        max_dim: largest dimension of a payload.
        num_bytes: length of the frame.

    Raises:
        WireError: names the payload.
    """
    limit, most_steps = MAX_CLAIM * (max_dim + num_bytes), FREE_STEPS + STEPS_A_BYTE * num_bytes
    total = steps = 0
    for name, fields in payloads.items():
        for asked in _asked(fields, whole=False, depth=0):
            total += asked.entries
            steps += asked.steps
        if total > limit:
            raise WireError(
                f"{name}: up to here {num_bytes} bytes stand for {total} entries of vectors that "
                f"take memory or time; {limit} are allowed, {MAX_CLAIM} for every byte and for "
                f"each of the {max_dim} entries of the longest vector: say fewer vectors in a "
                "message"
            )
        if steps > most_steps:
            raise WireError(
                f"{name}: up to here {num_bytes} bytes ask for {steps} steps of drawing codebooks, "
                f"workers' turns and layers; {most_steps} are allowed, {FREE_STEPS} and "
                f"{STEPS_A_BYTE} for every byte: say fewer vectors in a message, or cut them into "
                "fewer layers"
            )


def _asked(fields: object, *, whole: bool, depth: int) -> Iterator[Asked]:
    """Yield what the parts of one payload ask for; what is malformed is refused where it is read.

    Args:
        fields: ``[kind, *fields]``, hostile.
        whole: it lies in a payload that builds its inner vector, be it sparse or not.
        depth: in how many payloads it lies.
    """
    if depth > MAX_DEPTH:
        return
    match fields:
        case [6 | 7, list(parts)]:
            for part in parts:
                yield from _asked(part, whole=whole, depth=depth + 1)
        case [8 | 9, _, _, inner] | [10, _, inner]:
            yield from _asked(inner, whole=True, depth=depth + 1)
        case [11, int(rows), int(columns), _, _]:
            yield Asked(max(0, rows * columns), 0)
        case [5 | 12, int(dim), *_]:
            yield Asked(max(0, dim), 0)
        case [13, int(dim), _, _, list(form), bytes(layers), *_]:
            yield asked_of_groups(dim, form, layers)
        case [0 | 2 | 3 | 4, int(dim), *_] if whole:
            yield Asked(max(0, dim), 0)
