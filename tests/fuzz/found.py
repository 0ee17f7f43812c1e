"""Inputs that were read wrongly once: kept as text, and tried again with every test."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "found"


def keep(target: str, data: bytes, why: str) -> Path:
    """Write an input to a file that is named by its digest, and return its path."""
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    path = FOLDER / f"{target}-{digest}.hex"
    lines = [data[start : start + 32].hex(" ") for start in range(0, len(data), 32)]
    FOLDER.mkdir(exist_ok=True)
    path.write_text("\n".join([f"# {why}", *lines, ""]), encoding="utf-8")
    return path


def kept() -> list[Path]:
    """Return the paths of all that are kept."""
    return sorted(FOLDER.glob("*.hex"))


def again(path: Path) -> tuple[str, bytes]:
    """Return the target of a kept input, and the input."""
    lines = path.read_text(encoding="utf-8").splitlines()
    data = bytes.fromhex("".join(line for line in lines if not line.startswith("#")))
    return path.name.rpartition("-")[0], data
