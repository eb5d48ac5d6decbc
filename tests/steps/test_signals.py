"""Looks on record: the same look counts once, and of many processes one tells; on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks import notify
from tasks.core.health.alarms import Alarm
from tasks.core.policy.alerting import Look, Patience, is_over, opens_as
from tasks.notify import Delivered, Signalled, deliver_pending, signal
from tasks.settings import Settings
from tasks.store import alerts, deliveries, signals
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.played import Channel, play_channels
from tests.receivers import Service, service
from tests.steps.test_notify_processes import KILLED, dies, ended, in_child
from tests.stores import BOTH, fresh_url, place

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHANNELS = {"critical": ["pagerduty/ops", "slack/ml"], "warning": ["slack/ml"], "info": ["teams/ml"]}
HASTY = make_spec(alerts=CHANNELS)
PATIENT = make_spec(alerts={**CHANNELS, "open_after": [2, 3], "close_after": 2})


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    return play_channels(monkeypatch)


@pytest.fixture(params=BOTH)
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with fresh_url(request.param, request, tmp_path) as url:
        yield place(url, tmp_path)


def bad(cause: str = "service", tier: str = "warning", message: str = "it is slow") -> Look:
    return Look(cause, tier, True, message)


def clean(cause: str = "service") -> Look:
    return Look(cause, "warning", False)


def played(spec, settings: Settings, *looks: Look, start: int = 0) -> list[Signalled]:
    return [
        signal.fn(spec, [look], look=f"w{number}", as_of=AT + number * HOUR, settings=settings)
        for number, look in enumerate(looks, start)
    ]


def test_an_incident_opens_with_the_second_bad_look_and_ends_with_the_second_clean_one(
    channels, somewhere: Settings
) -> None:
    found = played(PATIENT, somewhere, bad(), clean(), bad(message="slow again"), clean(), clean(), clean())
    held, opened, over = Signalled(held=("service",)), Signalled(("service",)), Signalled(ended=("service",))
    assert found == [held, Signalled(), opened, Signalled(), over, Signalled()]
    assert channels["slack/ml"].firsts == ["slow again", "service is over after 2 hours; it was: slow again"]
    [incident] = alerts.history(open_store(somewhere), "churn")
    assert (incident.opened_at, incident.resolved_at) == (AT + 2 * HOUR, AT + 4 * HOUR)


def test_looking_again_is_no_second_look(channels, somewhere: Settings) -> None:
    played(PATIENT, somewhere, bad())
    assert played(PATIENT, somewhere, bad()) == [Signalled()], "one look is no second one"
    assert played(PATIENT, somewhere, bad(), start=1) == [Signalled(("service",))]
    for _ in range(3):
        assert played(PATIENT, somewhere, bad(message="again"), bad()) == [Signalled(), Signalled()]
    said = signals.history(open_store(somewhere), "churn", "service")
    assert [look.message for _, look in said] == ["it is slow"] * 2
    assert channels["slack/ml"].firsts == ["it is slow"]


def test_where_nobody_is_patient_one_look_decides(channels, settings: Settings) -> None:
    found = played(HASTY, settings, bad(), bad(), clean(), bad())
    assert found == [
        Signalled(("service",)),
        Signalled(),
        Signalled(ended=("service",)),
        Signalled(("service",)),
    ]
    assert len(channels["slack/ml"].got) == 3


def test_a_fact_is_told_at_once_however_patient_people_are(channels, settings: Settings) -> None:
    fact = Look("canary returned v4", "critical", True, "3 answers failed")
    assert played(PATIENT, settings, fact) == [Signalled(("canary returned v4",))]
    assert channels["pagerduty/ops"].firsts == ["3 answers failed"]


def test_a_look_that_comes_late_is_put_where_it_belongs(channels, settings: Settings) -> None:
    played(PATIENT, settings, bad(), start=5)
    played(PATIENT, settings, clean(), start=3)
    assert played(PATIENT, settings, bad(message="earlier"), start=4) == [Signalled(("service",))]
    assert channels["slack/ml"].firsts == ["it is slow"], "told of the newest"
    [incident] = alerts.history(open_store(settings), "churn")
    assert incident.opened_at == AT + 5 * HOUR


def test_clean_looks_from_before_an_incident_do_not_end_it(channels, settings: Settings) -> None:
    played(PATIENT, settings, clean(), clean(), clean())
    alerts.open_incident(
        open_store(settings), model="churn", cause="service", tier="warning", message="told by hand",
        at=AT + 3 * HOUR,
    )  # fmt: skip
    assert played(PATIENT, settings, clean(), start=4) == [Signalled()]
    assert played(PATIENT, settings, clean(), start=5) == [Signalled(ended=("service",))]


def test_what_grows_louder_is_told_once_to_the_louder_channels_and_ends_everywhere_once(
    channels, somewhere: Settings
) -> None:
    found = played(
        HASTY, somewhere, bad(tier="info"), bad(), bad(tier="critical", message="it is down"),
        bad(tier="critical"), bad(), clean(),
    )  # fmt: skip
    louder, over = Signalled(louder=("service",)), Signalled(ended=("service",))
    assert found == [Signalled(("service",)), louder, louder, Signalled(), Signalled(), over]
    assert channels["teams/ml"].subjects == ["[info] churn: service", "[resolved] churn: service"]
    assert channels["slack/ml"].subjects == [
        "[warning] churn: service, was for information",
        "[critical] churn: service, was for information",
        "[resolved] churn: service",
    ]
    assert channels["pagerduty/ops"].firsts[0] == "it is down: it is slow"
    assert channels["pagerduty/ops"].subjects[1:] == ["[resolved] churn: service"]
    [incident] = alerts.history(open_store(somewhere), "churn")
    assert incident.tier == "info", "as it began"
    raised = signals.raised(open_store(somewhere), incident)
    assert raised == {"warning": AT + HOUR, "critical": AT + 2 * HOUR}


def test_the_alarms_of_a_health_check_are_looks_and_what_is_overdue_is_told_within_a_window(
    channels, settings: Settings
) -> None:
    def looked(hour: int, is_bad: bool) -> Signalled:
        alarms = [Alarm(cause, "warning", "text", is_bad) for cause in ("service", "stale source", "burn")]
        return signal.fn(HASTY, alarms, look="window w", as_of=AT + hour * HOUR, settings=settings)

    causes = ("service", "stale source", "burn")
    assert looked(1, is_bad=False) == Signalled()
    assert looked(2, is_bad=True) == Signalled(causes)
    assert looked(3, is_bad=False) == Signalled(ended=causes)
    names = [name for name, _ in signals.history(open_store(settings), "churn", "burn")]
    assert names == [(AT + hour * HOUR).isoformat() for hour in (1, 2, 3)], "an outage is of the moment"
    assert len(signals.history(open_store(settings), "churn", "service")) == 1


def test_a_failure_between_a_look_and_its_incident_leaves_neither(
    channels, somewhere: Settings, monkeypatch
) -> None:
    def no(*args: object, **options: object) -> int:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(deliveries, "write", no)
        with pytest.raises(OSError, match="full"):
            played(HASTY, somewhere, bad())
    assert signals.history(open_store(somewhere), "churn", "service") == []
    assert played(HASTY, somewhere, bad()) == [Signalled(("service",))]


def test_a_process_that_dies_between_a_look_and_its_message_leaves_it_to_the_next(
    far: Service, settings: Settings, monkeypatch
) -> None:
    spec = make_spec(alerts={"warning": ["webhook/ops"]})

    def look() -> Signalled:
        return signal.fn(spec, [bad()], look="w0", as_of=AT, settings=settings)

    with monkeypatch.context() as killing:
        killing.setattr(notify, "send_rows", dies)
        assert ended(in_child(look)) == KILLED
    assert look() == Signalled(), "the look was taken"
    assert far.got == []
    assert deliver_pending.fn(spec, settings=settings) == Delivered(("webhook/ops",))
    assert [one.json["title"] for one in far.got] == ["[warning] churn: service"]


# A storm: 200 looks at eight causes that flap, each with a seed of its own; what has to be told is known.

CAUSES = [f"cause {number}" for number in range(8)]
STORM = make_spec(alerts={"warning": ["webhook/ops"], "open_after": [2, 3], "close_after": 3})
RULE = Patience(2, 3, 3)


def storm(seed: int, looks: int = 25) -> list[list[Look]]:
    """Return looks at every cause: calm, then trouble, then calm, with 15 of 100 looks wrong."""
    rng = np.random.default_rng(seed)
    truth = [looks // 3 <= number < 2 * looks // 3 for number in range(looks)]
    return [
        [Look(cause, "warning", bool(is_bad ^ (rng.random() < 0.15)), f"look {number}") for cause in CAUSES]
        for number, is_bad in enumerate(truth)
    ]


def expected(rounds: list[list[Look]]) -> Counter[str]:
    """Return how often each subject has to be told, by the pure rule alone."""
    told: Counter[str] = Counter()
    for place_of, cause in enumerate(CAUSES):
        is_open, seen = False, []
        for looks in rounds:
            seen.append(looks[place_of])
            if is_open and is_over(seen, RULE):
                told[f"[resolved] churn: {cause}"] += 1
                is_open = False
            elif not is_open and opens_as(seen, RULE):
                told[f"[warning] churn: {cause}"] += 1
                is_open = True
    return told


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    from tasks.messages import channels as kinds

    with service() as running:
        block = CustomWebhookNotificationBlock(
            name="ops", url=running.url, json_data={"title": "{{subject}}", "text": "{{body}}"}
        )
        monkeypatch.setattr(kinds, "load", lambda name: block)
        yield running


def test_a_storm_of_200_looks_tells_what_the_rule_says_none_lost_none_doubled(
    channels, settings: Settings
) -> None:
    spec = make_spec(alerts={**dict(STORM.alerts), "warning": ["slack/ml"]})
    rounds = storm(6)
    for number, looks in enumerate(rounds):
        if number % 7 == 3:
            channels["slack/ml"].trouble = OSError("no route to host")
        signal.fn(spec, looks, look=f"w{number}", as_of=AT + number * HOUR, settings=settings)
        channels["slack/ml"].trouble = None
        later = datetime.now(UTC) + timedelta(minutes=2)
        deliver_pending.fn(spec, as_of=later, settings=settings)
        signal.fn(spec, looks, look=f"w{number}", as_of=AT + number * HOUR, settings=settings)
    assert Counter(channels["slack/ml"].subjects) == expected(rounds)
    assert len(channels["slack/ml"].got) < _flips(rounds) / 2, "without patience each change is told"
    assert deliver_pending.fn(spec, as_of=later + 600 * HOUR, settings=settings) == Delivered()


def _flips(rounds: list[list[Look]]) -> int:
    marks = np.array([[look.is_bad for look in looks] for looks in rounds])
    return int(np.abs(np.diff(marks, axis=0)).sum())


def test_two_processes_that_look_at_once_tell_what_one_would(far: Service, somewhere: Settings) -> None:
    open_store(somewhere)
    rounds = storm(7, looks=15)

    def all_looks() -> None:
        for number, looks in enumerate(rounds):
            signal.fn(STORM, looks, look=f"w{number}", as_of=AT + number * HOUR, settings=somewhere)

    children = [in_child(all_looks) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    deliver_pending.fn(STORM, as_of=datetime.now(UTC) + HOUR, settings=somewhere)
    told, wanted = Counter(one.json["title"] for one in far.got), expected(rounds)
    incidents = alerts.history(open_store(somewhere), "churn")
    assert Counter(f"[warning] churn: {one.cause}" for one in incidents) == {
        subject: count for subject, count in wanted.items() if "warning" in subject
    }
    assert not told - wanted, "none doubled"
    # What was over before anybody could be told is told neither; it takes a process that stood still.
    topics = [deliveries.opened(one.id) for one in incidents]
    rows = deliveries.about(open_store(somewhere), topics)
    untold = Counter(row.content["subject"] for row in rows if not row.delivered)
    assert Counter(subject for subject in (wanted - told).elements() if "warning" in subject) == untold
