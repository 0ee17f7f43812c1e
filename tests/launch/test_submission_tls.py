"""A dashboard behind https, with a certificate that no authority has signed."""

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.submission.access import ca_bundle
from launch.submission.dashboard import Dashboard
from mlmc_ray.errors import ClusterError, ConfigError

web = pytest.importorskip("aiohttp.web", reason="needs Ray's dashboard: pip install 'ray[default]'")


async def _version(request: object) -> object:
    return web.json_response({"ray_version": "2.60.0", "version": "4"})


async def _tail(request: object) -> object:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("hello\n")
    await socket.close()
    return socket


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and its self-signed certificate, for the name localhost alone."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(path), "-out", str(path.with_name("certificate.pem"))]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files],
        check=True,
        capture_output=True,
    )
    return path.with_name("certificate.pem")


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    """Where a dashboard speaks TLS, as far as it says its version and one line of a log."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("both.pem"))
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.add_routes([web.get("/api/version", _version), web.get("/api/jobs/j/logs/tail", _tail)])
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield runner.addresses[0][1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


async def _log(dashboard: Dashboard) -> str:
    return "".join([text async for text in dashboard.tail("j")])


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_trusted_certificate_serves_answers_and_the_log(
    name: str, port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificate))
    dashboard = Dashboard(f"https://localhost:{port}")
    assert asyncio.run(_log(dashboard)) == "hello\n"


def test_an_unknown_certificate_is_told(port: int) -> None:
    said = r"not trusted: certificate verify failed: self-signed certificate; set REQUESTS_CA_BUN"
    with pytest.raises(ClusterError, match=said):
        Dashboard(f"https://localhost:{port}")


def test_another_name_than_the_certificates_is_told(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with pytest.raises(ClusterError, match=r"not trusted: .* mismatch.*by a name that it holds"):
        Dashboard(f"https://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/no/such", "No such file or directory"), (__file__, "no certificate or crl found")],
)
def test_a_bundle_that_is_none_is_told(path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"REQUESTS_CA_BUNDLE is '{path}', which .*: {reason}"):
        ca_bundle({"REQUESTS_CA_BUNDLE": path, "CURL_CA_BUNDLE": "/other"})
