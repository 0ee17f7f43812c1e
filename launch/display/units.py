"""Sizes in words."""


def format_bytes(size: float) -> str:
    """Return a size with a decimal unit: 999 B, 1.23 kB, 45.6 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if float(f"{size:.3g}") < 1000:  # as it is shown
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
