"""Launching again what was decided and never carried out: lost events, dead workers, crashed runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy.engine import Engine

from tasks.clock import now_or
from tasks.core.errors import LaunchError
from tasks.core.policy.decision import Cause, Decision
from tasks.core.policy.standing import MOST_SENDS, due, objection, overtaken
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration
from tasks.launch import Launched, launch_mode, launch_retraining
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import claims, ledger, outbox
from tasks.store.engine import open_store

LOOKS_BACK = timedelta(days=365)  # a decision without outcome is asked about for a year, then history


@dataclass(frozen=True)
class Reconciled:
    """What was launched again, and `stuck`: one sentence for each decision that needs a person.

    `looked` is False where launches are inline, so that there is nothing to look for.
    """

    looked: bool = False
    launched: tuple[Launched, ...] = ()
    stuck: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return what needs a person, as one line."""
        return "; ".join(self.stuck)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def relaunch_unanswered(spec: ModelSpec, *, settings: Settings | None = None) -> Reconciled:
    """Return what became of the model's decisions to train that have no outcome yet.

    A decision is launched again when it still stands, nobody works on it, and it was last sent more than six
    minutes ago. One that was sent five times to no effect, or that went out of date without an outcome, is
    reported instead, until the model is trained for another reason. An inline launch needs none of this:
    it ends with its check. One launch that fails does not keep the others from being tried.
    """
    place = settings or Settings()
    if launch_mode(place) == "inline":
        return Reconciled()
    store, now = open_store(place), now_or(None)
    launched, stuck = [], []
    for asked in outbox.unanswered(store, spec.name, since=now - LOOKS_BACK):
        try:
            again = _again(spec, asked, store, now, place)
        except LaunchError as err:
            stuck.append(str(err))
            continue
        if isinstance(again, Launched):
            launched.append(again)
        elif again:
            stuck.append(f"decision {asked.decision_id} led to nothing: {again}")
    task_logger(__name__).info("%s: %d launched again, %d stuck", spec.name, len(launched), len(stuck))
    return Reconciled(True, tuple(launched), tuple(stuck))


def _again(
    spec: ModelSpec, asked: outbox.Asked, store: Engine, now: datetime, place: Settings
) -> Launched | str:
    """Return the new launch, or why a person is needed; nothing where there is only waiting to be done."""
    if not claims.look(store, asked.decision_id, spec.name, now).acquired:
        return ""  # it, or another retraining of this model, is running
    decided = ledger.decided(store, spec.name, asked.decision_id)
    if decided is None:  # they are written in one transaction, so somebody has deleted history
        return "its decision is not in the history"
    valid_for = parse_duration(spec.retrain.valid_for)
    why = objection(written_at=asked.written_at, acts_as_of=decided.at, valid_for=valid_for, now=now)
    if overtaken(ledger.history(store, spec.name), asked.decision_id, decided.at):
        return ""
    if why or not due(sent_at=asked.sent_at, now=now):
        return why
    if asked.tries >= MOST_SENDS:
        return f"launched {asked.tries} times, see the runs of retrain/{spec.name} and its trigger"
    decision = Decision("TRAIN", cast(Cause, decided.cause), decided.reasons, decided.decision_id)
    return launch_retraining(spec, decision, as_of=decided.at, settings=place, wait_seconds=0)
