"""The Prefect server as the deployment commands see it: plain JSON in and out, and errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from tasks.core.errors import WorkflowError

PAGE = 200  # the most a server answers with at once


class DeployError(WorkflowError):
    """The server cannot be brought to what the files declare."""


class Api:
    """Requests to one Prefect server.

    Raises:
        DeployError: from every request that is not answered, or refused.
    """

    def __init__(self, client: SyncPrefectClient):
        self._client = client

    def get(self, path: str) -> Any:  # Any: JSON
        """Return what stands at the path, or None where there is nothing."""
        try:
            return self._send("GET", path).json()
        except ObjectNotFound:
            return None

    def post(self, path: str, **body: Any) -> Any:  # Any: JSON
        """Return the answer to a POST."""
        answer = self._found("POST", path, json=body)
        return answer.json() if answer.content else None

    def put(self, path: str, **body: Any) -> None:  # Any: JSON
        """Replace what stands at the path."""
        self._found("PUT", path, json=body)

    def delete(self, path: str) -> None:
        """Remove what stands at the path; it may be gone already."""
        try:
            self._send("DELETE", path)
        except ObjectNotFound:
            return

    def all(self, path: str, **body: Any) -> list[Any]:  # Any: JSON
        """Return everything a filter finds, page by page."""
        found: list[Any] = []
        while True:
            page = self.post(path, **body, limit=PAGE, offset=len(found))
            found += page
            if len(page) < PAGE:
                return found

    def _found(self, method: Any, path: str, **more: Any) -> httpx.Response:  # Any: httpx's own types
        try:
            return self._send(method, path, **more)
        except ObjectNotFound as err:
            raise DeployError(
                f"answer 404 to {method} {path}", "a Prefect 3.8 server", "check PREFECT_API_URL"
            ) from err

    def _send(self, method: Any, path: str, **more: Any) -> httpx.Response:  # Any: httpx's own types
        try:
            answer: httpx.Response = self._client.request(method, path, **more)  # type: ignore[arg-type]
        except PrefectHTTPStatusError as err:
            code = err.response.status_code
            if code == 404:
                raise ObjectNotFound(err) from err
            todo = "check PREFECT_API_AUTH_STRING" if code in (401, 403) else _detail(err.response)
            raise DeployError(
                f"answer {code} to {method} {path}", "a server that takes the request", todo
            ) from err
        except (httpx.TransportError, OSError) as err:
            raise DeployError(
                f"no answer from the Prefect server ({type(err).__name__})",
                "a running server at PREFECT_API_URL",
                "start it, for example with make up, and run this again",
            ) from err
        return answer


@contextmanager
def connected() -> Iterator[Api]:
    """Give the API of the server that PREFECT_API_URL names.

    Raises:
        DeployError: when it names none: a server made for this command alone would forget it all.
    """
    if not PREFECT_API_URL.value():
        raise DeployError(
            "no PREFECT_API_URL", "the address of a Prefect server", "export it, or start one with make up"
        )
    with get_client(sync_client=True) as client:
        yield Api(client)


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail") or answer.json().get("exception_message") or ""
    except ValueError:
        detail = ""
    return f"the server says: {str(detail)[:200]}" if detail else "read the server's log"
