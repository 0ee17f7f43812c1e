"""Whether a dashboard answers at an address, and takes the token that there is here."""

import os
from collections.abc import Mapping

import requests

from launch.submission.access import ANSWER_TIMEOUT_S, distrust, reason_of, token_source
from mlmc_ray.errors import ClusterError


def check_answers(url: str, headers: Mapping[str, str]) -> None:
    """Refuse an address where no dashboard answers, or one that wants another token.

    Args:
        url: without a slash at its end.
        headers: those of all requests, with the token.

    Raises:
        ClusterError: says which, and what would do.
    """
    try:
        answer = requests.get(f"{url}/api/version", headers=headers, timeout=ANSWER_TIMEOUT_S)
    except requests.exceptions.SSLError as error:
        raise ClusterError(distrust(url, error)) from error
    except (requests.RequestException, ValueError) as error:  # UnicodeError: an odd host
        raise ClusterError(
            f"no Ray dashboard answers at {url}: {reason_of(error)}; check the address "
            "(http://HOST:8265 of the head node), and that the cluster runs with its dashboard"
        ) from error
    if answer.status_code == 401:
        raise ClusterError(
            f"the cluster at {url} wants a token, and there is none here: set RAY_AUTH_TOKEN to "
            "what `ray get-auth-token` prints on the head node, and unset RAY_AUTH_MODE if it is "
            "'disabled'"
        )
    if answer.status_code == 403:
        raise ClusterError(
            f"the cluster at {url} refuses the token from {token_source(os.environ)}: it belongs "
            "to another cluster; set RAY_AUTH_TOKEN to what `ray get-auth-token` prints on the "
            "head node"
        )
    if not _has_version(answer):
        raise ClusterError(
            f"what answers at {url} is no Ray dashboard (status {answer.status_code}): give "
            "http://HOST:8265 of the head node"
        )


def _has_version(answer: requests.Response) -> bool:
    """Return whether an answer names Ray's version, as that of a dashboard does."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "ray_version" in found
