"""What a run is made with: Python, the packages that its numbers depend on, and the machine."""

import platform
from importlib import metadata

_PACKAGES = ("mlmc-ray", "ray", "torch", "numpy", "msgpack", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the version of each, by name, and the platform in words."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}
