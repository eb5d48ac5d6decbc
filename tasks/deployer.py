"""Telling the service that deploys models of every promotion and rollback, signed.

What it gets is `POST` with the JSON `{"model", "version", "from_version", "action", "decision_id", "digest",
"at", "sequence"}` and two headers. A receiver checks them before it believes anything, here with Flask:

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
        if told["sequence"] <= highest(told["model"]):       # it came twice, or later than a newer one
            return "", 204
        deploy(told["model"], told["version"], sha256=told["digest"])
        remember(told["model"], told["sequence"])
        return "", 204                                       # any 2xx; anything else is tried again

Messages may come twice, late and out of order: what counts is the highest `sequence` of a model, which grows
by one with each of its moves. `at` is the moment that a move acts as of, and a later move may have an earlier
one. A move whose process died before it was announced is announced by the model's next check. A receiver in
another language computes HMAC-SHA256 over the timestamp, a full stop and the body, in hex after `v1=`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.errors import RegistryError
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.messages import promotions
from tasks.messages.deliver import send_rows
from tasks.settings import Settings
from tasks.store import deliveries, ledger
from tasks.store.engine import open_store


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

    Raises:
        RegistryError: when the ledger knows of no such move.
    """
    place = settings or Settings()
    if not place.deployer:
        return False
    engine, now = open_store(place), now_or(None)
    sequence = promotions.sequence_of(ledger.history(engine, spec.name), decision_id)
    if sequence is None:
        raise RegistryError(
            f"no move of decision {decision_id} in the ledger",
            "a move that was made",
            "announce a version after it serves",
            model=spec.name,
        )
    served = promotions.Served(
        spec.name, version, from_version, action, decision_id, digest, utc(as_of).isoformat(), sequence
    )
    promotions.put(engine, served, now)
    waiting = deliveries.about(engine, [promotions.topic_of(spec.name, decision_id)])
    rows = [row for row in waiting if row.done_at is None and row.next_at <= now]
    sent = send_rows(engine, rows, now, place)
    if sent.reached:
        task_logger(__name__).info("%s: the deployer knows of version %s (%s)", spec.name, version, action)
    return bool(sent.reached)
