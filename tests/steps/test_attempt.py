"""An attempt acts as of its decision, and starts nothing for one that no longer stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.attempt import Attempt, begin_attempt, conclude
from tasks.core.policy.decision import Decision
from tasks.run_state import outcome_of
from tasks.settings import Settings
from tasks.store import claims, ledger
from tasks.store.engine import close_stores, open_store
from tests.make import make_spec

DECIDED_AT = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
SPEC = make_spec()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_stores()


def decided(settings: Settings, *, written: timedelta = timedelta(0), **over: Any) -> None:
    decision = Decision("TRAIN", "decay", ("score fell",), "d1")
    given = {"at": DECIDED_AT, "now": datetime.now(UTC) - written, "run_id": "check-run", **over}
    ledger.record_decision(open_store(settings), decision, model="churn", **given)


def begun(settings: Settings, as_of: datetime | None = None, **over: Any) -> Attempt:
    given = {"reason": "event", "decision_id": "d1", "settings": settings, **over}
    attempt: Attempt = begin_attempt.fn(SPEC, as_of, **given)
    return attempt


def test_an_attempt_acts_as_of_its_decision_and_knows_the_check_that_caused_it(settings: Settings) -> None:
    decided(settings)
    decided(settings, at=DECIDED_AT + DAY, run_id="later-check")  # reached again: the first one counts
    attempt = begun(settings)
    assert (attempt.acquired, attempt.as_of) == (True, DECIDED_AT)
    assert attempt.decision == {
        "id": "d1",
        "kind": "TRAIN",
        "cause": "decay",
        "reasons": ["score fell"],
        "decided_at": DECIDED_AT.isoformat(),
        "caused_by": "check-run",
    }


def test_a_moment_that_is_given_counts(settings: Settings) -> None:
    decided(settings)
    assert begun(settings, DECIDED_AT + DAY).as_of == DECIDED_AT + DAY


def test_a_run_by_hand_acts_as_of_now(settings: Settings) -> None:
    before = datetime.now(UTC)
    attempt = begun(settings, reason="manual", decision_id="")
    assert before <= attempt.as_of <= datetime.now(UTC)
    assert attempt.id == f"manual-churn-{attempt.as_of:%Y%m%dT%H%M%S}"
    assert attempt.decision["caused_by"] is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"written": 3 * DAY + timedelta(minutes=1)}, "decided 3 days ago, a decision stands for 3 days"),
        ({"written": timedelta(minutes=-6)}, "written .* ahead of this clock"),
        ({"at": datetime.now(UTC) + DAY}, "dated .* ahead of this clock"),
    ],
)
def test_a_decision_that_no_longer_stands_starts_nothing_and_leaves_nothing(
    settings: Settings, given: dict[str, Any], said: str
) -> None:
    decided(settings, **given)
    attempt = begun(settings)
    assert not attempt.acquired
    ended = conclude.fn(SPEC, attempt, "skipped", attempt.why, settings=settings)
    assert (outcome_of(ended.state()), ended.caused_by) == ("Skipped", "check-run")
    store = open_store(settings)
    assert ledger.history(store, "churn") == []
    assert claims.look(store, "d1", "churn", datetime.now(UTC)).state == "new"
    assert re.search(said, ended.why)


def test_an_event_for_a_decision_nobody_made_starts_nothing(settings: Settings) -> None:
    attempt = begun(settings, decision_id="forged")
    assert (attempt.acquired, attempt.why) == (False, "no decision forged to train on record")
    assert begun(settings, decision_id="forged", reason="manual").acquired  # a person may name an attempt


def test_an_event_for_a_decision_not_to_train_starts_nothing(settings: Settings) -> None:
    skip = Decision("SKIP", "drift", ("does not hurt",), "d1")
    ledger.record_decision(open_store(settings), skip, model="churn", at=DECIDED_AT)
    assert not begun(settings).acquired


def test_an_event_with_a_decision_of_another_model_starts_nothing(settings: Settings) -> None:
    decided(settings)
    other = make_spec(name="spend")
    attempt = begin_attempt.fn(other, None, reason="event", decision_id="d1", settings=settings)
    assert not attempt.acquired
