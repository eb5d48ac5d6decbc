"""How patient a task is with a source: what another attempt can mend is tried again, nothing else."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from tasks.run_state import again_if_passing

READING: dict[str, Any] = {  # Any: keyword arguments of Prefect's decorator
    "retries": 2,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": again_if_passing,
    "timeout_seconds": 4 * 3600,
    "cache_policy": NO_CACHE,
}
"""Arguments of the decorator of every task that reads a source."""
