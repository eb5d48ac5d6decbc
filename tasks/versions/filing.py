"""Where a version stands after something was decided about it: a candidate, in staging, or put away."""

from __future__ import annotations

from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.policy.stages import FILED, Stage
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import leases, lifecycle, moves, succession
from tasks.store.engine import open_store, writing
from tasks.store.locks import model_lock
from tasks.store.mirror import show_stages


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def file_version(
    spec: ModelSpec,
    version: int | None,
    action: str,
    *,
    actor: str,
    reason: str,
    decision_id: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> Stage | None:
    """Return the stage at which the version stands after this outcome; None when there is no version.

    Call it after the ledger has the outcome. It may be repeated and may come late: a version that has moved
    further by then, because somebody approved it, say, is left where it is.

    Args:
        spec: the model.
        version: its number; None where the attempt ended without one.
        action: the outcome: registered, waiting, kept, refused, rejected; others change no stage.
        actor: who decided.
        reason: why.
        decision_id: the decision behind it.
        as_of: when it counts as decided.
        settings: this place.

    Raises:
        RegistryError: when registry or store do not answer, or the model is being moved for too long.
    """
    if version is None:
        return None
    place = settings or Settings()
    why = lifecycle.Why(actor, moves.short(reason), decision_id, as_of)
    with model_lock(f"{spec.name}.move", place):
        moves.finish_pending(spec.name, settings=place)
        stage = filed(spec.name, version, action, why, settings=place)
    task_logger(__name__).info("%s: version %d %s, now %s", spec.name, version, action, stage)
    return stage


def filed(name: str, version: int, action: str, why: lifecycle.Why, *, settings: Settings) -> Stage | None:
    """Return the stage of the version after this outcome; call it under the model's lock.

    Raises:
        RegistryError: see `file_version`.
    """
    engine, wanted = open_store(settings), FILED.get(action)
    with leases.held(engine, moves.lease_of(name)) as fence:
        with writing(engine, lock=lifecycle.lock_of(name)) as connection:
            leases.check(connection, fence)
            if wanted and wanted != "PRODUCTION":  # only a move leads there
                moved = succession.file(connection, name, version, wanted, why)
            else:
                moved = succession.catch_up(connection, name)
        show_stages(name, {version, *moved}, settings=settings)
    return lifecycle.stage_of(engine, name, version)
