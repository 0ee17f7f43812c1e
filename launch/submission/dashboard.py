"""The dashboard of a Ray cluster: the one address that has to be reachable.

Jobs go through Ray's own client. It does not say how large the cluster is, and it reads no file but
a job's log; for these the addresses of Ray's state API are asked, as ``ray list nodes`` and
``ray logs`` do.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import requests

from launch.submission.access import (
    ANSWER_TIMEOUT_S,
    ca_bundle,
    dashboard_url,
    headers_of,
    reason_of,
)
from launch.submission.answering import check_answers
from launch.submission.job import Job
from mlmc_ray.errors import ClusterError, one_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_LOG_LEVELS = {
    "ray.dashboard.modules.job.sdk": logging.WARNING,
    "ray.dashboard.modules.dashboard_sdk": logging.WARNING,
    "ray._private.runtime_env.packaging": logging.WARNING,  # it warns of large files
    "ray._private.runtime_env.working_dir": logging.ERROR,  # it warns that .git stays behind
}
"""Ray's client reports every step to the terminal by itself."""

_TRANSFER_TIMEOUT_S = 3600
_TLS_CLOSING_S = 0.25
"""What aiohttp's documentation has one wait for a TLS connection to close behind its session."""

_BLOCK = 1 << 16
_OTHER_SHAPES = (KeyError, TypeError, AttributeError, RecursionError)
"""What reading an answer ends in that is JSON, and not what it should be."""


class Dashboard:
    """A cluster, as far as its dashboard goes.

    Args:
        address: ``http://HOST:8265``; by default that of the environment's RAY_API_SERVER_ADDRESS
            or RAY_ADDRESS, or else of this machine.

    Raises:
        ConfigError: the address is that of something else, or the token or the certificates to
            trust cannot be read.
        ClusterError: nothing answers there within five seconds, its certificate is not trusted, it
            wants another token, or Ray's client is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        self.url = dashboard_url(address, os.environ)
        self._headers = headers_of(os.environ)
        trusted = ca_bundle(os.environ) if self.url.startswith("https://") else None
        check_answers(self.url, self._headers)
        self._client = _client(self.url, self._headers, trusted)

    def submit(self, job: Job) -> None:
        """Copy the files of a job to the cluster and start it; it may wait there.

        Raises:
            ClusterError: the cluster refuses it, or its files are too large for the dashboard.
        """
        with self._plain_errors(), _told_too_large(job), job.runtime_env() as runtime_env:
            self._client.submit_job(
                entrypoint=job.entry_point,
                submission_id=job.job_id,
                runtime_env=runtime_env,
                metadata={"job_name": job.name, **({"kept": job.keep} if job.keep else {})},
                entrypoint_num_cpus=job.num_cpus or None,
            )

    def details(self, job_id: str) -> "JobDetails":
        """Return what is known of a job.

        Raises:
            ClusterError: there is no such job.
        """
        with self._plain_errors():
            return self._client.get_job_info(job_id)

    def log(self, job_id: str) -> str:
        """Return the log of a job as far as it has come."""
        with self._plain_errors():
            return str(self._client.get_job_logs(job_id))

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """Yield the log of a job from its beginning, as it is written, until the job ends."""
        import aiohttp

        with self._plain_errors():
            try:
                async for text in self._client.tail_job_logs(job_id):
                    yield text
            except aiohttp.ClientError as error:
                raise ClusterError(f"{self.url}: the log breaks off: {one_line(error)}") from error
            finally:
                if self.url.startswith("https://"):
                    await asyncio.sleep(_TLS_CLOSING_S)

    def stop(self, job_id: str) -> None:
        """Ask a job to end."""
        with self._plain_errors():
            self._client.stop_job(job_id)

    def read_log_file(self, job_id: str, name: str, sink: IO[bytes], longest: int) -> None:
        """Copy a file of the log directory of the node on which a job's command ran.

        Args:
            job_id: of the job.
            name: of the file.
            sink: gets the bytes.
            longest: bytes that are copied at most; a longer file is cut one byte later.

        Raises:
            ClusterError: there is no such file, or the connection broke.
        """
        node_id = self.details(job_id).driver_node_id
        if node_id is None:
            raise ClusterError(f"{job_id} has not started, so there is no {name}")
        query = {
            "node_id": node_id,
            "filename": name,
            "lines": -1,
            "timeout": _TRANSFER_TIMEOUT_S,
        }
        left = longest + 1
        with self._plain_errors(), self.get("/api/v0/logs/file", query, stream=True) as answer:
            for block in answer.iter_content(_BLOCK):
                sink.write(block[:left])
                left -= len(block)
                if left <= 0:
                    break

    def get(self, path: str, query: Mapping[str, Any], *, stream: bool = False) -> Any:
        """Return the dashboard's answer to a path below its address, a ``requests.Response``.

        Raises:
            ClusterError: it cannot be reached, or its status is not 200.
        """
        with self._plain_errors():
            answer = requests.get(
                self.url + path,
                params=dict(query),
                headers=self._headers,
                timeout=(ANSWER_TIMEOUT_S, _TRANSFER_TIMEOUT_S if stream else 60.0),
                stream=stream,
            )
        if answer.status_code != 200:
            raise ClusterError(f"{self.url}{path}: {one_line(RuntimeError(answer.text))}")
        return answer

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Say what Ray's client and the connection say as one of our errors."""
        try:
            yield
        except (requests.RequestException, OSError) as error:
            raise ClusterError(f"{self.url} does not answer: {reason_of(error)}") from error
        except (RuntimeError, ValueError) as error:
            raise ClusterError(f"{self.url}: {one_line(error)}") from error
        except _OTHER_SHAPES as error:
            raise ClusterError(
                f"{self.url} answers otherwise than a Ray dashboard does: {one_line(error)}"
            ) from error


@contextmanager
def _told_too_large(job: Job) -> Iterator[None]:
    """Say what to do about files that are larger than a dashboard takes: Ray's takes 100 MiB."""
    try:
        yield
    except RuntimeError as error:
        if "status code 413" not in str(error):
            raise
        raise ClusterError(
            f"the files below {job.working_dir} are larger than the dashboard takes ({error}): "
            "name in .gitignore what the job does not need, and put data where the nodes have it"
        ) from error


def _client(url: str, headers: Mapping[str, str], trusted: str | None) -> "JobSubmissionClient":
    """Return Ray's client for an address that answers.

    Args:
        url: the address.
        headers: of all requests.
        trusted: certificates; the log's connection is none of ``requests``, and must be told.

    Raises:
        ClusterError: it is not installed.
    """
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = url  # it wins over the client's own argument
    try:
        import aiohttp  # noqa: F401 - the client is there without it, and cannot follow a log
        from ray.job_submission import JobSubmissionClient

        for name, level in _LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        return JobSubmissionClient(url, headers=dict(headers), verify=trusted or True)
    except ImportError as error:
        raise ClusterError(
            f"Ray's job client is not installed ({one_line(error)}): pip install 'ray[default]'"
        ) from error
    finally:
        if before is None:
            del os.environ["RAY_API_SERVER_ADDRESS"]
        else:
            os.environ["RAY_API_SERVER_ADDRESS"] = before
