"""Ray: its dashboard, the cluster that a run would join, and the token."""

import importlib.util
import os
import socket
from collections.abc import Iterator

from launch.doctor.finding import Finding
from launch.engines import cluster
from launch.submission.access import token_source

_DASHBOARD = ("aiohttp", "aiohttp_cors", "opencensus", "virtualenv")
_CONNECT_TIMEOUT_S = 2.0


def clusters() -> Iterator[Finding]:
    """Look at what decides which cluster a run belongs to; nothing is started."""
    topic = "Ray"
    lacking = [name for name in _DASHBOARD if importlib.util.find_spec(name) is None]
    if lacking:
        yield Finding(
            topic=topic,
            name="dashboard",
            state="hint",
            text=f"not installed ({', '.join(lacking)}): `mlmc-ray submit` needs it",
            remedy="pip install 'ray[default]'",
        )
    else:
        yield Finding(topic=topic, name="dashboard", state="ok", text="installed")
    yield _address()
    yield _cluster()
    yield _token()


def _address() -> Finding:
    """Say what a run without ``address`` joins."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        text = "not set: a run without `address` starts a local cluster"
        return Finding(topic="Ray", name="RAY_ADDRESS", state="ok", text=text)
    if _listens(address):
        text = f"{address} answers, and runs join it"
        return Finding(topic="Ray", name="RAY_ADDRESS", state="ok", text=text)
    kind = "is no HOST:PORT of a head node" if "://" in address else "does not answer"
    return Finding(
        topic="Ray",
        name="RAY_ADDRESS",
        state="hint",
        text=f"{address} {kind}, and every run tries to join it",
        remedy="unset RAY_ADDRESS",
    )


def _cluster() -> Finding:
    """Say what ``address: auto`` finds: processes of this machine, and what Ray has noted."""
    name, address, running = "running cluster", cluster.auto_address(), cluster.running_clusters()
    if not address:
        text = "none on this machine; `address: auto` needs one"
        return Finding(topic="Ray", name=name, state="ok", text=text)
    if _listens(address):
        others = ", ".join(other for other in running if other != address)
        text = f"{address}; runs join it with `address: auto`, and not by themselves"
        more = f"; there are others, to be named: {others}" if others else ""
        return Finding(topic="Ray", name=name, state="ok", text=f"{text}{more}")
    note = cluster.note_of_cluster()
    return Finding(
        topic="Ray",
        name=name,
        state="hint",
        text=f"none that `address: auto` finds: {note} names {address}, which does not answer",
        remedy=f"rm {note}",
    )


def _token() -> Finding:
    """Say who asks for a token: `ray start --head` where it finds one, and no local cluster."""
    source = token_source(os.environ)
    if source is None:
        text = "none, and none is asked for on a local cluster"
        return Finding(topic="Ray", name="token", state="ok", text=text)
    if source.startswith("RAY_") or "RAY_AUTH_MODE" in os.environ:
        return Finding(topic="Ray", name="token", state="ok", text=f"from {source}")
    return Finding(
        topic="Ray",
        name="token",
        state="hint",
        text=f"in {source}; runs on this machine alone need nothing more. A cluster that `ray "
        "start --head` begins here asks every node for it, and one that joins without it fails "
        "with InvalidAuthToken after 20 s: copy the file there, and let the node join with",
        remedy="RAY_AUTH_MODE=token ray start --address=HEAD:6379",
    )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
