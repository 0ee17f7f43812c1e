"""Shared by all tests: hypothesis settings, and one Ray cluster for the whole run."""

import logging
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")

# Ten slots on however many processors there are: the largest test has four hosts and a server,
# and the actors of the test before may still be ending.
_SLOTS = 10
_GPUS = 2  # only in Ray's books: reservations can be tested without a GPU


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def forgetting(tmp_path: Path) -> Iterator[None]:
    """Forget in the end what has been imported from the test's own directory."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One local Ray cluster, shared by every test that asks for it; sessions find it running."""
    token = pytest.MonkeyPatch()
    token.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # none is left in the home directory
    ray.init(
        address="local",
        num_cpus=_SLOTS,
        num_gpus=_GPUS,
        include_dashboard=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()
    token.undo()
