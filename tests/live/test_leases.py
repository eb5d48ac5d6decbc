"""A run that holds a slot of a concurrency limit keeps it when the server is started anew."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from deployments.local.services import services
from tests.live.live import Live, live_place

pytestmark = pytest.mark.engine


def limit_and_lease(live: Live) -> str:
    """Take the only slot of a new limit, as a run does; return the lease."""
    live.post("/v2/concurrency_limits/", name="retrain-demo", limit=1)
    taken = live.post(
        "/v2/concurrency_limits/increment-with-lease",
        names=["retrain-demo"],
        slots=1,
        mode="concurrency",
        lease_duration=300,
    )
    return str(taken["lease_id"])


def renewed(live: Live, lease: str) -> int:
    """Return what the server answers to a run that renews its lease."""
    address = f"{live.api}/v2/concurrency_limits/leases/{lease}/renew"
    return httpx.post(address, json={"lease_duration": 300}, trust_env=False).status_code


@pytest.mark.parametrize("as_make_up", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_lease_outlives_the_server_as_make_up_starts_it(tmp_path: Path, as_make_up: bool) -> None:
    shared = {"EVERGREEN_MLFLOW": "http://127.0.0.1:5000", "EVERGREEN_STATE_DIR": str(tmp_path)}
    table = services({"server": 4200, "worker": 4210}, shared | {"PREFECT_API_URL": ""})
    (server,) = [service for service in table if service.name == "server"]
    storage = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    memory = "prefect.server.concurrency.lease_storage.memory"  # Prefect's default
    with live_place(tmp_path, **{storage: server.env[storage] if as_make_up else memory}) as live:
        live.start_server()
        lease = limit_and_lease(live)
        assert renewed(live, lease) == 204
        live.stop("server")
        live.start_server()
        assert renewed(live, lease) == (204 if as_make_up else 410)
