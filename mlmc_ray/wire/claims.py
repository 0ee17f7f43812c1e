"""How many entries the payloads of a frame make of few bytes.

A run of equal codes takes no bytes, whatever its length, and a payload of some bytes may ask for a
draw or a rotation of a long vector. So what a frame may ask for in all is bounded.
"""

from collections.abc import Mapping

from mlmc_ray.errors import WireError
from mlmc_ray.wire.fields import MAX_DEPTH

MAX_CLAIM = 16
"""How many entries there may be for every entry of ``max_dim`` and for every byte of the frame."""


def check_claims(payloads: Mapping[str, object], max_dim: int, num_bytes: int) -> None:
    """Refuse payloads that make too many entries, before any of them is read.

    Args:
        payloads: their fields, by name; hostile.
        max_dim: largest dimension of a payload.
        num_bytes: length of the frame.

    Raises:
        WireError: names the payload.
    """
    limit, total = MAX_CLAIM * (max_dim + num_bytes), 0
    for name, fields in payloads.items():
        total += _claimed(fields, whole=False, depth=0)
        if total > limit:
            raise WireError(
                f"{name}: up to here {num_bytes} bytes stand for {total} entries of vectors that "
                f"take memory or time; {limit} are allowed, {MAX_CLAIM} for every byte and for "
                f"each of the {max_dim} entries of the longest vector: say fewer vectors in a "
                "message"
            )


def _claimed(fields: object, *, whole: bool, depth: int) -> int:
    """Return the entries that one payload makes; what is malformed is refused where it is read.

    Args:
        fields: ``[kind, *fields]``, hostile.
        whole: it lies in a payload that builds its inner vector, be it sparse or not.
        depth: in how many payloads it lies.
    """
    if depth > MAX_DEPTH:
        return 0
    match fields:
        case [6 | 7, list(parts)]:
            return sum(_claimed(part, whole=whole, depth=depth + 1) for part in parts)
        case [8 | 9, _, _, inner] | [10, _, inner]:
            return _claimed(inner, whole=True, depth=depth + 1)
        case [11, int(rows), int(columns), _, _]:
            return max(0, rows * columns)
        case [5 | 12, int(dim), *_]:
            return max(0, dim)
        case [13, int(dim), *_]:
            return 4 * max(0, dim)  # thresholds and codebooks take as much again
        case [0 | 2 | 3 | 4, int(dim), *_] if whole:
            return max(0, dim)
    return 0
