"""Where a dashboard is, and with which token it is asked."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import requests

from mlmc_ray.errors import ConfigError, one_line

DEFAULT_URL = "http://127.0.0.1:8265"
ANSWER_TIMEOUT_S = 5.0


def dashboard_url(address: str | None, environment: Mapping[str, str]) -> str:
    """Return the address of a dashboard, without a slash at its end.

    Args:
        address: given by the user, with or without ``http://``; None to look elsewhere.
        environment: whose RAY_API_SERVER_ADDRESS and RAY_ADDRESS come next.

    Raises:
        ConfigError: it is the address of something else, or holds a user's name.
    """
    sources = {
        "--address": address,
        "RAY_API_SERVER_ADDRESS": environment.get("RAY_API_SERVER_ADDRESS"),
        "RAY_ADDRESS": environment.get("RAY_ADDRESS"),
    }
    source, found = next(((k, v) for k, v in sources.items() if v), ("", DEFAULT_URL))
    if "@" in found:  # what is before it may be secret, and addresses are shown
        raise ConfigError(
            f"{source} holds an '@': give http://HOST:8265 without a user and a password; a token "
            "goes into RAY_AUTH_TOKEN"
        )
    scheme, separator, host = found.rpartition("://")
    if separator and scheme not in ("http", "https"):
        raise ConfigError(f"{source} is {found!r}: give the dashboard's, http://HOST:8265")
    if not separator and (found in ("auto", "local") or source == "RAY_ADDRESS"):
        raise ConfigError(
            f"{source} is {found!r}, which does not say where the dashboard is: give --address "
            "http://HOST:8265"
        )
    return f"{scheme or 'http'}://{host}".rstrip("/")


def token_source(environment: Mapping[str, str]) -> str | None:
    """Return where Ray finds its token, or None where there is none or it is not to be used."""
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if environment.get(name):
            return name
    home = Path.home() / ".ray" / "auth_token"
    return str(home) if home.is_file() else None


def headers_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the header that carries the token; Ray's client sends it if told to only.

    Raises:
        ConfigError: the token cannot be read, or cannot stand in a header.
    """
    source = token_source(environment)
    if source is None:
        return {}
    path = environment.get(source, source) if source != "RAY_AUTH_TOKEN" else None
    try:
        token = (Path(path).read_text() if path else environment[source]).strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the token of {source} cannot be read: {reason_of(error)}") from error
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            f"the token of {source} has several lines or characters outside of ASCII: give what "
            "`ray get-auth-token` prints on the head node"
        )
    return {"Authorization": f"Bearer {token}"}


def ca_bundle(environment: Mapping[str, str]) -> str | None:
    """Return the file or directory of certificates that ``requests`` trusts, None for its own.

    Raises:
        ConfigError: it cannot be read, or holds no certificates.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := environment.get(name):
            try:
                file, directory = (None, path) if Path(path).is_dir() else (path, None)
                ssl.create_default_context(cafile=file, capath=directory)
            except OSError as error:
                raise ConfigError(
                    f"{name} is {path!r}, which holds no certificates: {reason_of(error)}"
                ) from error
            return path
    return None


def distrust(url: str, error: requests.exceptions.SSLError) -> str:
    """Return what a failed TLS handshake with an address means, and what would do."""
    reason = reason_of(error)
    if "certificate verify failed" in reason:
        return (
            f"the certificate of {url} is not trusted: {reason}; set REQUESTS_CA_BUNDLE to a PEM "
            "file of the authority that signed it, or of itself if it is self-signed, and give the "
            "address by a name that it holds"
        )
    return f"{url} does not speak TLS as expected: {reason}; try http:// if it has none"


def reason_of(error: BaseException) -> str:
    """Return what a failed connection died of, without the layers around it."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {ANSWER_TIMEOUT_S:g} s"
    text = str(getattr(error, "strerror", None) or one_line(error))
    found = re.search(r"\[(?:Errno -?\d+|\w+: \w+)\] ((?:[^'\"()]|'[^']*'(?=\.))*)", text)
    return found[1].strip(" .") if found else text
