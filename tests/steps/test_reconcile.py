"""What was decided and never carried out is launched again while it stands, and told when it is stuck."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flows.monitor
from tasks import launch
from tasks.core.errors import LaunchError
from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec
from tasks.launch import Launched
from tasks.launching.emit import Emitted, event_id
from tasks.notify import tell
from tasks.reconcile import Reconciled, relaunch_unanswered
from tasks.settings import Settings
from tasks.store import claims, ledger, outbox
from tasks.store.engine import close_stores, open_store
from tests.loop.plainly import plainly
from tests.make import make_spec

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
DECIDED_AT = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_stores()


@pytest.fixture
def here(settings: Settings) -> Settings:
    return settings.model_copy(update={"launch": "event"})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The decisions whose event was sent."""
    found: list[str] = []

    def emit(model: str, decision_id: str) -> Emitted:
        found.append(decision_id)
        if decision_id.startswith("unlucky"):
            raise LaunchError("event not taken", model=model)
        return Emitted(event_id(model, decision_id), None)

    monkeypatch.setattr(launch, "emit_decision", emit)
    return found


def asked(
    place: Settings,
    decision_id: str = "d1",
    *,
    written: timedelta = timedelta(hours=1),
    sent: timedelta | None = None,
    tries: int = 1,
    at: datetime = DECIDED_AT,
) -> None:
    """Record a decision as of `at`, written and last sent this long ago."""
    store, now = open_store(place), datetime.now(UTC)
    decision = Decision("TRAIN", "decay", ("score fell",), decision_id)
    ledger.record_decision(store, decision, model="churn", at=at, now=now - written)
    for _ in range(tries if sent is not None else 0):
        row = outbox.find(store, "churn", decision_id)
        assert row
        assert outbox.take(store, row, now - (sent or timedelta(0)))


def relaunched(place: Settings, **over: Any) -> Reconciled:
    found: Reconciled = relaunch_unanswered.fn(make_spec(**over), settings=place)
    return found


@pytest.mark.parametrize(("ago", "again"), [(None, True), (5 * MINUTE, False), (7 * MINUTE, True)])
def test_a_decision_without_outcome_is_sent_again_after_six_minutes(
    here: Settings, sent: list[str], ago: timedelta | None, again: bool
) -> None:
    asked(here, sent=ago)
    found = relaunched(here)
    expected = (Launched("event", True, "asked", None, "score fell"),) if again else ()
    assert (found, sent) == (Reconciled(True, expected), ["d1"] if again else [])
    assert relaunched(here) == Reconciled(True)  # a moment later there is nothing to do


@pytest.mark.parametrize("action", ["promoted", "kept", "refused", "waiting", "skipped", "blocked"])
def test_a_decision_with_an_outcome_is_over(here: Settings, sent: list[str], action: Any) -> None:
    asked(here)
    ledger.record(
        open_store(here), model="churn", decision_id="d1", action=action, from_version=None, to_version=1,
        actor="retrain", reason="done", at=DECIDED_AT,
    )  # fmt: skip
    assert (relaunched(here), sent) == (Reconciled(True), [])


@pytest.mark.parametrize(("holds", "works"), [("d1", True), ("another", True), ("d1", False)])
def test_a_decision_waits_while_its_model_is_being_trained_and_not_for_a_dead_run(
    here: Settings, sent: list[str], holds: str, works: bool
) -> None:
    asked(here)
    host, pid, started, run = claims.this_process().split(":")
    owner = f"{host}:{pid}:{started if works else int(started) - 1}:{run}"
    claims.claim(open_store(here), holds, "churn", owner, datetime.now(UTC))
    assert (relaunched(here).stuck, sent) == ((), [] if works else ["d1"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"written": 3 * DAY + MINUTE}, "decision d1 led to nothing: decided 3 days ago"),
        ({"written": -6 * MINUTE}, "ahead of this clock"),
        ({"at": datetime.now(UTC) + DAY}, "decision d1 led to nothing: dated"),
        ({"sent": 7 * MINUTE, "tries": 5}, "launched 5 times, see the runs of retrain/churn and its trigger"),
    ],
)
def test_what_cannot_be_launched_again_is_told(
    here: Settings, sent: list[str], given: dict[str, Any], said: str
) -> None:
    asked(here, **given)
    found = relaunched(here)
    assert (len(found.stuck), found.launched, sent) == (1, (), [])
    assert said in found.sentence()


def test_what_went_out_of_date_is_told_until_the_model_was_trained_for_another_reason(
    here: Settings, sent: list[str]
) -> None:
    asked(here, written=60 * DAY)
    assert len(relaunched(here).stuck) == 1
    ledger.record(
        open_store(here), model="churn", decision_id="other", action="kept", from_version=1, to_version=2,
        actor="retrain", reason="not better", at=datetime.now(UTC),
    )  # fmt: skip
    assert (relaunched(here), sent) == (Reconciled(True), [])


def test_how_long_a_decision_stands_is_the_models_to_say(here: Settings, sent: list[str]) -> None:
    asked(here, written=1.5 * DAY)
    retrain = {"min_new_rows": 100, "cooldown": "1d", "valid_for": "1d"}
    assert len(relaunched(here, retrain=retrain).stuck) == 1
    assert sent == []


def test_one_launch_that_fails_does_not_keep_the_others_from_being_tried(
    here: Settings, sent: list[str]
) -> None:
    for name in ("unlucky", "d2"):
        asked(here, name)
    found = relaunched(here)
    assert [one.outcome for one in found.launched] == ["asked"]
    assert "event not taken" in found.sentence()
    assert sent == ["unlucky", "d2"]
    assert relaunched(here).stuck  # it was never sent, so it is due at once
    assert sent == ["unlucky", "d2", "unlucky"]


def test_an_inline_place_has_nothing_to_launch_again(settings: Settings, sent: list[str]) -> None:
    asked(settings)
    assert (relaunched(settings), sent) == (Reconciled(), [])


@pytest.mark.parametrize("stuck", [("decision d1 led to nothing",), ()])
def test_monitoring_tells_once_what_is_stuck_and_settles_it_when_it_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, stuck: tuple[str, ...]
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(settings.state_dir))
    plainly(monkeypatch)
    monkeypatch.setattr(flows.monitor, "relaunch_unanswered", lambda spec: Reconciled(True, stuck=stuck))
    spec: ModelSpec = make_spec()
    tell.fn(spec, "critical", "launch", "stuck before", as_of=DECIDED_AT)
    flows.monitor.catch_up(spec, DECIDED_AT)
    with open_store(settings).connect() as connection:
        query = "SELECT cause, resolved_at IS NULL FROM alerts"
        assert connection.exec_driver_sql(query).fetchall() == [("launch", bool(stuck))]
