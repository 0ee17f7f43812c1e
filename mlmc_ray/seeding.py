"""Named random generators: the same name gives the same draws, in any process and any order.

There is no shared generator. A name is a run's seed and the place of use, so a round that is
repeated repeats its draws, and it does not matter which process hosts a worker. What draws from
torch's global generators, such as dropout, does so inside ``drawing``.

torch's CPU generator takes the lower 32 bits of a seed: of two draws one in 2^32 are alike.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(seed: int, *names: int | str) -> int:
    """Return 63 bits that depend on the seed and on every name, and look random otherwise."""
    key = "/".join(repr(name) for name in (seed, *names))
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def generator_for(seed: int, *names: int | str) -> torch.Generator:
    """Return a fresh CPU generator that belongs to the names.

    Args:
        seed: the run's seed.
        *names: the place of use, for example ``worker_id, round_index, "compress"``.
    """
    return torch.Generator().manual_seed(seed_for(seed, *names))


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators for a while, and put them back as they were.

    Args:
        seed: of the CPU's generator, and of the device's own where it is a CUDA device; the two
            draw other numbers from it.
        device: where a model computes; None for the CPU.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for other devices too
        for gpu in cuda:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
