"""What flows tell and settle obeys the patience, the sleep and the worry that people asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks import notify
from tasks.core.policy.alerting import Look
from tasks.core.policy.decision import CheckOutcome, Decision, Evidence, decide
from tasks.core.window import Window
from tasks.messages import channels as kinds
from tasks.notify import Delivered, Told, announce, deliver_pending, escalate, settle, signal, tell
from tasks.settings import Settings
from tasks.store import alerts, deliveries, signals
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.played import Channel, play_channels
from tests.steps.test_notify_processes import ended, in_child

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CHANNELS = {
    "critical": ["pagerduty/ops", "slack/ml"],
    "warning": ["slack/ml", "teams/ml"],
    "info": ["webhook/x"],
}
PATIENT = make_spec(alerts={**CHANNELS, "open_after": [2, 3], "close_after": 2})
WORRIED = make_spec(alerts={**CHANNELS, "escalate_after": "6h"})
ASLEEP = make_spec(
    alerts={**CHANNELS, "quiet": {"start": "22:00", "end": "07:00", "timezone": "Europe/Berlin"}}
)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    return play_channels(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    """The time by the clock, for a test to set; at first it is a winter's night in Berlin."""
    hand = {"now": datetime(2026, 1, 12, 23, tzinfo=UTC)}
    monkeypatch.setattr(notify, "now_or", lambda as_of: as_of or hand["now"])
    return hand


def still_open(settings: Settings) -> list[str]:
    return [one.cause for one in alerts.history(open_store(settings), "churn", open_only=True)]


# Patience.


def test_telling_twice_opens_an_incident_where_people_asked_for_two_looks(
    channels, settings: Settings
) -> None:
    def told(day: int) -> Told:
        return tell.fn(PATIENT, "warning", "decay", f"day {day}", as_of=AT + day * DAY, settings=settings)

    assert [told(1), told(1)] == [Told(False)] * 2, "the same moment is no second look"
    assert told(2) == Told(True, ("slack/ml", "teams/ml"))
    assert channels["slack/ml"].firsts == ["day 2"]
    assert not told(3).is_new


def test_settling_twice_ends_it(channels, settings: Settings) -> None:
    for day in (1, 2):
        tell.fn(PATIENT, "warning", "decay", "score fell", as_of=AT + day * DAY, settings=settings)
    found = [settle.fn(PATIENT, "decay", as_of=AT + day * DAY, settings=settings) for day in (3, 3, 4, 5)]
    assert found == [False, False, True, False]
    assert channels["slack/ml"].firsts[1] == "decay is over after 2 days; it was: score fell"


@pytest.mark.parametrize("cause", ["launch", "retraining", "automatic rollback of v3", "approval v7"])
def test_what_happened_is_told_and_settled_at_once(channels, settings: Settings, cause: str) -> None:
    assert tell.fn(PATIENT, "critical", cause, "text", as_of=AT, settings=settings).is_new
    assert settle.fn(PATIENT, cause, as_of=AT, settings=settings)
    assert signals.history(open_store(settings), "churn", cause) == []


def test_without_patience_nothing_is_remembered_of_a_look(channels, settings: Settings) -> None:
    for _ in range(2):
        assert tell.fn(WORRIED, "warning", "decay", "text", as_of=AT, settings=settings).is_new
        assert settle.fn(WORRIED, "decay", as_of=AT, settings=settings)
    assert signals.history(open_store(settings), "churn", "decay") == []


def decided(*names: str, ends: datetime, hours: int = 0) -> Decision:
    checks = [
        CheckOutcome(Window.ending(ends - number * DAY, "1d"), name)
        for number, name in enumerate(reversed(names))
    ]
    evidence = Evidence(as_of=ends + hours * HOUR, performance=tuple(checks))
    return decide(evidence, make_spec(drift={"windows": [1, 1]}))


def test_decisions_on_one_window_are_one_look_however_often_they_are_reached(
    channels, settings: Settings
) -> None:
    def said(*names: str, day: int, hours: int = 0) -> list[str]:
        found = decided(*names, ends=AT + day * DAY, hours=hours)
        announce.fn(PATIENT, found, as_of=AT + day * DAY + hours * HOUR, settings=settings)
        return still_open(settings)

    assert [said("drift", day=1, hours=hours) for hours in range(24)] == [[]] * 24
    assert said("drift", "drift", day=2) == ["decay"]
    assert [said("drift", "ok", day=3, hours=hours) for hours in range(5)] == [["decay"]] * 5
    assert said("ok", "ok", day=4) == []
    assert len(channels["slack/ml"].got) == 2


# Escalation by age.


def test_a_warning_that_lasts_is_told_once_to_the_critical_channels(channels, settings: Settings) -> None:
    tell.fn(WORRIED, "warning", "decay", "score fell", as_of=AT, settings=settings)
    tell.fn(WORRIED, "info", "drift", "x moved", as_of=AT, settings=settings)
    assert escalate.fn(WORRIED, as_of=AT + 6 * HOUR, settings=settings) == ()
    assert escalate.fn(WORRIED, as_of=AT + 7 * HOUR, settings=settings) == ("decay",)
    assert escalate.fn(WORRIED, as_of=AT + 700 * HOUR, settings=settings) == ()
    assert channels["pagerduty/ops"].got[0][0] == "[critical] churn: decay, was a warning"
    assert channels["pagerduty/ops"].firsts == ["a warning for 7 hours: score fell"]
    assert channels["teams/ml"].subjects == ["[warning] churn: decay"], "not of the louder tier"
    [incident] = [one for one in alerts.history(open_store(settings), "churn") if one.cause == "decay"]
    assert incident.tier == "warning"
    assert signals.raised(open_store(settings), incident) == {"critical": AT + 7 * HOUR}


def test_the_end_of_what_was_escalated_is_told_once_to_everybody_who_heard_of_it(
    channels, settings: Settings
) -> None:
    tell.fn(WORRIED, "warning", "decay", "score fell", as_of=AT, settings=settings)
    escalate.fn(WORRIED, as_of=AT + 7 * HOUR, settings=settings)
    assert settle.fn(WORRIED, "decay", as_of=AT + 8 * HOUR, settings=settings)
    ends = {name: [one for one in played.subjects if "resolved" in one] for name, played in channels.items()}
    over = ["[resolved] churn: decay"]
    assert ends == {"pagerduty/ops": over, "slack/ml": over, "teams/ml": over, "webhook/x": []}
    assert channels["teams/ml"].firsts[-1] == "decay is over after 8 hours; it was: score fell"
    assert tell.fn(WORRIED, "warning", "decay", "again", as_of=AT + 9 * HOUR, settings=settings).is_new
    assert escalate.fn(WORRIED, as_of=AT + 16 * HOUR, settings=settings) == ("decay",), "another incident"


def test_a_pager_that_was_warned_opens_a_second_incident_and_closes_both(
    channels, settings: Settings, monkeypatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def close_or_open(block: object, slug: str, message) -> bool:
        asked.append((message.key, message.ends))
        return True

    monkeypatch.setattr(kinds, "close_or_open", close_or_open)
    both = make_spec(
        alerts={"critical": ["pagerduty/ops"], "warning": ["pagerduty/ops"], "escalate_after": "6h"}
    )
    tell.fn(both, "warning", "decay", "score fell", as_of=AT, settings=settings)
    escalate.fn(both, as_of=AT + 7 * HOUR, settings=settings)
    settle.fn(both, "decay", as_of=AT + 8 * HOUR, settings=settings)
    (first, _), (second, _) = asked[:2]
    assert second == f"{first}-critical"
    assert sorted(asked[2:]) == sorted([(first, True), (second, True)])


def test_an_escalation_nobody_could_be_told_of_is_told_later_unless_it_is_over(
    channels, settings: Settings
) -> None:
    for cause in ("decay", "harm"):
        tell.fn(WORRIED, "warning", cause, cause, as_of=AT, settings=settings)
    channels["pagerduty/ops"].trouble = OSError("no route to host")
    assert escalate.fn(WORRIED, as_of=AT + 7 * HOUR, settings=settings) == ("decay", "harm")
    channels["pagerduty/ops"].trouble = None
    settle.fn(WORRIED, "harm", as_of=AT + 8 * HOUR, settings=settings)
    later = datetime.now(UTC) + HOUR
    assert deliver_pending.fn(WORRIED, as_of=later, settings=settings) == Delivered(("pagerduty/ops",))
    assert channels["pagerduty/ops"].firsts == ["a warning for 7 hours: decay"]


def test_of_two_processes_that_escalate_at_once_one_does(channels, settings: Settings, tmp_path) -> None:
    tell.fn(WORRIED, "warning", "decay", "score fell", as_of=AT, settings=settings)

    def work() -> None:
        found = escalate.fn(WORRIED, as_of=AT + 7 * HOUR, settings=settings)
        (tmp_path / f"found-{len(found)}").touch()

    assert [ended(child) for child in [in_child(work) for _ in range(2)]] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("found-*")) == ["found-0", "found-1"]


# Quiet hours.


def test_warnings_of_the_night_are_told_in_the_morning_and_what_is_critical_at_once(
    channels, settings: Settings, clock
) -> None:
    held = tell.fn(ASLEEP, "warning", "decay", "score fell", as_of=AT, settings=settings)
    assert held == Told(True, waiting=("slack/ml", "teams/ml"))
    assert tell.fn(ASLEEP, "info", "drift", "x moved", as_of=AT, settings=settings).waiting == ("webhook/x",)
    loud = tell.fn(ASLEEP, "critical", "data", "x is gone", as_of=AT, settings=settings)
    assert loud == Told(True, ("pagerduty/ops", "slack/ml"))
    morning = datetime(2026, 1, 13, 6, tzinfo=UTC)
    before = deliver_pending.fn(ASLEEP, as_of=morning - timedelta(seconds=1), settings=settings)
    assert before == Delivered()
    assert deliver_pending.fn(ASLEEP, as_of=morning, settings=settings) == Delivered(
        ("slack/ml", "teams/ml", "webhook/x")
    )
    assert channels["slack/ml"].firsts == ["x is gone", "score fell"]


def test_what_is_over_by_the_morning_is_told_to_nobody(channels, settings: Settings, clock) -> None:
    tell.fn(ASLEEP, "warning", "decay", "score fell", as_of=AT, settings=settings)
    clock["now"] += HOUR
    assert settle.fn(ASLEEP, "decay", as_of=AT + HOUR, settings=settings)
    assert deliver_pending.fn(ASLEEP, as_of=clock["now"] + DAY, settings=settings) == Delivered()
    assert all(played.got == [] for played in channels.values())


def test_the_end_of_a_warning_of_the_day_waits_for_the_morning_too_but_a_pager_closes_at_once(
    channels, settings: Settings, clock
) -> None:
    spec = make_spec(alerts={**dict(ASLEEP.alerts), "warning": ["slack/ml", "pagerduty/ops"]})
    clock["now"] = datetime(2026, 1, 12, 15, tzinfo=UTC)
    tell.fn(spec, "warning", "decay", "score fell", as_of=AT, settings=settings)
    clock["now"] = datetime(2026, 1, 12, 23, tzinfo=UTC)
    settle.fn(spec, "decay", as_of=AT + 8 * HOUR, settings=settings)
    assert channels["pagerduty/ops"].subjects == ["[warning] churn: decay", "[resolved] churn: decay"]
    assert channels["slack/ml"].subjects == ["[warning] churn: decay"]
    deliver_pending.fn(spec, as_of=datetime(2026, 1, 13, 6, tzinfo=UTC), settings=settings)
    assert channels["slack/ml"].subjects == ["[warning] churn: decay", "[resolved] churn: decay"]


def test_a_warning_that_failed_in_the_evening_is_not_tried_again_at_night(
    channels, settings: Settings, clock
) -> None:
    clock["now"] = datetime(2026, 1, 12, 20, 59, tzinfo=UTC)
    channels["slack/ml"].trouble = OSError("no route to host")
    tell.fn(ASLEEP, "warning", "decay", "score fell", as_of=AT, settings=settings)
    channels["slack/ml"].trouble = None
    for hour in range(22, 29):
        at = datetime(2026, 1, 12, tzinfo=UTC) + hour * HOUR
        assert deliver_pending.fn(ASLEEP, as_of=at, settings=settings) == Delivered()
    at = datetime(2026, 1, 13, 6, tzinfo=UTC)
    assert deliver_pending.fn(ASLEEP, as_of=at, settings=settings) == Delivered(("slack/ml",))


def test_a_warning_that_grows_critical_at_night_is_told_at_once_and_not_as_a_warning_after_that(
    channels, settings: Settings, clock
) -> None:
    for number, tier in enumerate(("warning", "critical")):
        look = Look("service", tier, True, f"look {number}")
        signal.fn(ASLEEP, [look], look=str(number), as_of=AT + number * HOUR, settings=settings)
    assert channels["slack/ml"].firsts == channels["pagerduty/ops"].firsts == ["look 1: look 0"]
    deliver_pending.fn(ASLEEP, as_of=clock["now"] + DAY / 2, settings=settings)
    assert channels["slack/ml"].firsts == ["look 1: look 0"], "heard of it, louder"
    assert channels["teams/ml"].firsts == ["look 0"], "not of the louder tier"


def test_more_than_a_page_of_messages_of_the_night_never_keeps_a_critical_one_back(
    channels, settings: Settings, clock
) -> None:
    clock["now"] = datetime(2026, 1, 12, 20, tzinfo=UTC)
    for name in ("webhook/x", "pagerduty/ops", "slack/ml"):
        channels[name].trouble = OSError("no route to host")
    looks = [Look(f"cause {number}", "info", True, "moved") for number in range(210)]
    signal.fn(ASLEEP, looks, look="w", as_of=AT, settings=settings)
    tell.fn(ASLEEP, "critical", "data", "x is gone", as_of=AT, settings=settings)
    for name in ("webhook/x", "pagerduty/ops", "slack/ml"):
        channels[name].trouble = None
    night = datetime(2026, 1, 12, 23, tzinfo=UTC)
    done = [deliver_pending.fn(ASLEEP, as_of=night, settings=settings).reached for _ in range(2)]
    assert sorted(done[0] + done[1]) == ["pagerduty/ops", "slack/ml"]
    assert len(deliveries.due(open_store(settings), "churn", night + DAY, most=500)) == 210


def test_what_is_for_information_pages_nobody_by_day_or_night_or_age(
    channels, settings: Settings, clock
) -> None:
    spec = make_spec(
        alerts={**dict(ASLEEP.alerts), "info": ["pagerduty/ops", "webhook/x"], "escalate_after": "1h"}
    )
    for hour in (12, 23):
        clock["now"] = datetime(2026, 1, 12, hour, tzinfo=UTC)
        look = Look(f"drift at {hour}", "info", True, "x moved")
        signal.fn(spec, [look], look="w", as_of=AT, settings=settings)
        assert escalate.fn(spec, as_of=AT + DAY, settings=settings) == ()
    deliver_pending.fn(spec, as_of=clock["now"] + DAY / 2, settings=settings)
    assert channels["pagerduty/ops"].got == []
    assert len(channels["webhook/x"].got) == 2
