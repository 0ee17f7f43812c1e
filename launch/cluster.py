"""Joining a Ray cluster, or starting a local one and ending it again."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlmc_ray.errors import ClusterError

_CONNECT_TIMEOUT_S = 5.0


@contextmanager
def ray_cluster(address: str | None, num_cpus: int) -> Iterator[None]:
    """Belong to a Ray cluster for a while.

    A process that already belongs to one keeps it. Otherwise the cluster at ``address``, or at
    the environment's RAY_ADDRESS (which Ray's job submission sets), is joined. Otherwise a local
    one is started, on this machine only, and ended at the end.

    Args:
        address: of a running cluster, or None.
        num_cpus: processors that a local cluster offers; actors are placed by them.

    Raises:
        ClusterError: the cluster cannot be joined or started.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address
    if not address:
        # Ray authenticates local clusters. With the token in the environment it writes none into
        # the home directory, where it would make a later `ray start` demand it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        if address:
            _check_reachable(address)
        with _signals_deferred():
            if address:
                ray.init(address=address, logging_level=logging.ERROR)
            else:
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                )
    except (KeyboardInterrupt, SystemExit):  # SystemExit: Ray's own answer to SIGTERM
        ray.shutdown()
        raise KeyboardInterrupt from None
    except Exception as error:
        place = f"the Ray cluster at {address}" if address else "a local Ray cluster"
        doing = "join" if address else "start"
        remedy = (
            "check the address, and that it runs: ray status"
            if address
            else "see /tmp/ray/session_latest/logs, or use --engine inline, which needs no Ray"
        )
        reason = " ".join(str(error).split())[:300]
        ray.shutdown()
        raise ClusterError(f"could not {doing} {place}: {reason}; {remedy}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for many minutes.

    Raises:
        OSError: nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: Ray, interrupted while it starts, leaves processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    arrived = []
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # Ray has put its own in place
    if arrived:
        raise KeyboardInterrupt
