"""Whether a service answers on loopback."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import httpx

from deployments.local.services import POOL


def answers(url: str, environment: Mapping[str, str], *, timeout: float = 5) -> bool:
    """Return whether a GET of the address gives 200; a proxy is never asked.

    Args:
        url: an address on this machine.
        environment: where the password of the API stands, if it has one.
        timeout: seconds.
    """
    own = url.startswith(environment.get("PREFECT_API_URL", "\0"))
    headers = _password(environment) if own else {}
    try:
        return httpx.get(url, headers=headers, timeout=timeout, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def runs_in_the_middle(environment: Mapping[str, str]) -> int:
    """Return how many runs of a work pool the server believes to be running; 0 when it does not answer."""
    body = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}},
        "work_pools": {"name": {"any_": [POOL]}},
    }
    try:
        answered = httpx.post(
            f"{environment.get('PREFECT_API_URL', '')}/flow_runs/count", json=body,
            headers=_password(environment), timeout=5, trust_env=False,
        )  # fmt: skip
        return int(answered.raise_for_status().json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError):
        return 0


def _password(environment: Mapping[str, str]) -> dict[str, str]:
    auth = environment.get("PREFECT_API_AUTH_STRING")
    return {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}
