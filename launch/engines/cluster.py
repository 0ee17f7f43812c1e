"""Joining a Ray cluster, or starting a local one and ending it again."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from launch.submission.access import token_source
from mlmc_ray.errors import ClusterError, one_line

_CONNECT_TIMEOUT_S = 5.0
_TOKEN = secrets.token_hex(32)  # one a process: Ray reads it once


@dataclass(slots=True)
class _Connection:
    """A connection that ``ray_cluster`` made, and how many use it: the last one ends it."""

    gcs_address: str
    local: bool
    users: int = 0


_connection: _Connection | None = None


@contextmanager
def ray_cluster(address: str | None) -> Iterator[bool]:
    """Belong to a Ray cluster for a while.

    A process that already belongs to one keeps it. Otherwise the cluster at ``address``, or at
    the environment's RAY_ADDRESS (which Ray's job submission sets), is joined. Otherwise a local
    one is started, on this machine only, and ended when nobody uses it any more.

    Args:
        address: of a running cluster, or None.

    Yields:
        Whether the cluster is a local one that was started here, so that nobody else uses it.

    Raises:
        ClusterError: the cluster cannot be joined or started, or the process belongs to another.
    """
    global _connection
    import ray

    if not ray.is_initialized():
        local = _connect(address)
        _connection = _Connection(str(current_cluster()), local)
    elif address:
        _check_same(address)
    if _connection is None or _connection.gcs_address != current_cluster():
        yield False  # the process has called ray.init itself
        return
    connection = _connection
    connection.users += 1
    try:
        yield connection.local
    finally:
        connection.users -= 1
        if not connection.users and connection is _connection:
            _disconnect()


def current_cluster() -> str | None:
    """Return the address of the Ray cluster that this process belongs to, or None."""
    import ray

    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


def _connect(address: str | None) -> bool:
    """Join or start a cluster, and return whether it was started."""
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address
    if not address:
        # Ray authenticates local clusters. With the token in the environment it writes none into
        # the home directory, where it would make a later `ray start` demand it.
        os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
    try:
        if address:
            _check_reachable(address)
            _use_token()
        with signals_deferred():
            if address:
                ray.init(address=address, logging_level=logging.ERROR)
            else:
                ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
    except (KeyboardInterrupt, SystemExit):  # SystemExit: Ray's own answer to SIGTERM
        _disconnect()
        raise KeyboardInterrupt from None
    except Exception as error:
        place = f"the Ray cluster at {address}" if address else "a local Ray cluster"
        doing = "join" if address else "start"
        remedy = (
            f"check the address, and that it runs: ray status{_on_tokens()}"
            if address
            else "see /tmp/ray/session_latest/logs, or use --engine inline, which needs no Ray"
        )
        _disconnect()
        raise ClusterError(f"could not {doing} {place}: {one_line(error)}; {remedy}") from error
    return not address


def _disconnect() -> None:
    """Leave the cluster, and end it if it is local."""
    global _connection
    import ray

    _connection = None
    ray.shutdown()
    if os.environ.get("RAY_AUTH_TOKEN") == _TOKEN:
        del os.environ["RAY_AUTH_TOKEN"]


def _use_token() -> None:
    """Give the cluster the token that there is, which a cluster without one does not mind.

    Ray itself looks for it where it joins ``auto``, and nowhere else.
    """
    if "RAY_AUTH_MODE" not in os.environ and token_source(os.environ):
        os.environ["RAY_AUTH_MODE"] = "token"
        raylet: Any = import_module("ray._raylet")
        raylet.Config.initialize("")  # Ray has read the environment when it was imported


def _on_tokens() -> str:
    """Return what to add about tokens to the error of a cluster that cannot be joined."""
    if source := token_source(os.environ):
        return f"; if it wants a token, that is the one in {source} (compare: ray get-auth-token)"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return "; if it wants a token, unset RAY_AUTH_MODE"
    return (
        "; if it wants a token, put what `ray get-auth-token` prints on its head node into "
        "RAY_AUTH_TOKEN or ~/.ray/auth_token"
    )


def _check_same(address: str) -> None:
    """Refuse an address that is not that of the cluster which the process belongs to.

    Raises:
        ClusterError: names both.
    """
    ours = current_cluster()
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    if address not in ("auto", "local") and f"{host}:{port}" != ours:
        raise ClusterError(
            f"address is {address!r}, and this process already belongs to the Ray cluster at "
            f"{ours}: leave address out, or call ray.shutdown() first"
        )


def _check_reachable(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for many minutes.

    Raises:
        ValueError: it is one of Ray Client, which has no driver on the cluster.
        OSError: nothing answers there.
    """
    if address.startswith("ray://"):
        raise ValueError(
            "Ray Client is not supported: give HOST:PORT of the head node, from a node"
        )
    if "://" in address:
        raise ValueError(
            "that is a dashboard's: give HOST:PORT of the head node (the port is 6379, unless it "
            "was started with another), or use mlmc-ray submit"
        )
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "").replace("auto", "") or auto_address()
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()


def auto_address() -> str:
    """Return the address of the cluster that ``auto`` means, "" if there is none.

    As Ray does it: the one whose processes run on this machine, in whatever directory it keeps its
    files; where there are several, or none, the one in its note, which may have ended.
    """
    running, noted = running_clusters(), noted_cluster()
    return noted if noted and len(running) != 1 else next(iter(running), "")


def running_clusters() -> list[str]:
    """Return the addresses of the clusters that have processes of the user on this machine."""
    try:
        services: Any = import_module("ray._private.services")  # there is no public way to ask
        services.find_gcs_addresses.cache_clear()
        return sorted(services.find_gcs_addresses())
    except (ImportError, AttributeError):  # in another version of Ray
        return []


def noted_cluster() -> str:
    """Return the address in Ray's note of the last `ray start`, which may have ended, or ""."""
    try:
        return note_of_cluster().read_text().strip()
    except OSError:
        return ""


def note_of_cluster() -> Path:
    """Return the file in which Ray notes the last `ray start` without a --temp-dir."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"


@contextmanager
def signals_deferred() -> Iterator[None]:
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
