"""Let atheris look for inputs that reach code which none has reached before.

python -m tests.fuzz.guided frames -runs=200000 CORPUS_DIRECTORY

What follows the target is libFuzzer's. The well-formed inputs are written to the directory first.
"""

import hashlib
import sys
from pathlib import Path
from pkgutil import walk_packages
from random import Random

import mlmc_ray.kernels

try:
    import atheris
except ImportError as error:
    raise SystemExit("tests.fuzz.guided needs atheris: pip install 'mlmc-ray[fuzz]'") from error

_COMPILED = [  # by numba, which cannot compile what is instrumented
    "mlmc_ray.compressors.step_rates",
    *(found.name for found in walk_packages(mlmc_ray.kernels.__path__, "mlmc_ray.kernels.")),
]

with atheris.instrument_imports(include=["mlmc_ray", "launch"], exclude=_COMPILED):
    from tests.fuzz import found
    from tests.fuzz.judging import Wrong, accepted
    from tests.fuzz.mutations import changed_bytes
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run libFuzzer on a target until it finds an input that ends as it should not."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        raise SystemExit(f"{name!r} is no target: give one of {list(TARGETS)}")
    target = TARGETS[name]
    for option in options:
        if not option.startswith("-"):
            Path(option).mkdir(parents=True, exist_ok=True)
            for data in target.seeds():
                digest = hashlib.blake2b(data, digest_size=8).hexdigest()
                Path(option, digest).write_bytes(data)

    def read(data: bytes) -> None:
        try:
            accepted(target, data)
        except Wrong as error:
            print(f"again: python -m tests.fuzz {found.keep(name, data, str(error))}")
            raise

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        kind = random.random()
        if kind < 0.4:
            return bytes(atheris.Mutate(data, most))
        changed = changed_bytes(data, data, random) if kind < 0.7 else target.mutated(random)
        return changed[:most]

    atheris.Setup([sys.argv[0], *options], read, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
