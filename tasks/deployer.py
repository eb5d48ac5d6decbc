"""Telling the service that deploys models of every promotion and rollback, signed.

What it gets is `POST` with the JSON `{"model", "version", "from_version", "action", "decision_id", "digest",
"at"}` and two headers. A receiver checks them before it believes anything, for example with Flask:

    from tasks.core.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, verify

    @app.post("/promotions")
    def promotion():
        genuine = verify(
            request.get_data(),                              # the bytes as received, before parsing
            request.headers.get(TIMESTAMP_HEADER, ""),
            request.headers.get(SIGNATURE_HEADER, ""),
            key=os.environ["EVERGREEN_DEPLOYER_KEY"],
            now=time.time(),
        )
        if not genuine:
            abort(401)
        told = request.get_json()
        if seen(told["decision_id"]):                        # a message may come twice: act once
            return "", 204
        deploy(told["model"], told["version"], sha256=told["digest"])
        return "", 204                                       # any 2xx; anything else is tried again

Messages may also come late and out of order: what counts is the newest `at`. A receiver in another language
computes HMAC-SHA256 over the timestamp, a full stop and the body, in hex after `v1=`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.messages.deliver import DEPLOYER, send_rows
from tasks.settings import Settings
from tasks.store import deliveries
from tasks.store.engine import open_store, writing


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def announce_promotion(
    spec: ModelSpec,
    *,
    version: int,
    from_version: int | None,
    action: Literal["promoted", "rolled_back"],
    decision_id: str,
    digest: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> bool:
    """Return True when the deployer took the message that this version serves now.

    False when no deployer is set, when it was told already, or when it could not be reached: then the
    message waits and `deliver_pending` tries again, so that a promotion never fails for want of a deployer.
    Call it after the ledger has the move; again with the same decision it tells nothing new.
    """
    place = settings or Settings()
    if not place.deployer:
        return False
    content = {
        "model": spec.name,
        "version": version,
        "from_version": from_version,
        "action": action,
        "decision_id": decision_id,
        "digest": digest,
        "at": utc(as_of).isoformat(),
    }
    engine, now = open_store(place), now_or(None)
    topic = f"promotion:{spec.name}:{decision_id}"
    with writing(engine) as connection:
        deliveries.write(connection, model=spec.name, topic=topic, contents={DEPLOYER: content}, at=now)
    rows = [row for row in deliveries.about(engine, [topic]) if row.done_at is None and row.next_at <= now]
    sent = send_rows(engine, rows, now, place)
    if sent.reached:
        task_logger(__name__).info("%s: the deployer knows of version %s (%s)", spec.name, version, action)
    return bool(sent.reached)
