from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.policy.decision import CheckOutcome, Decision, Evidence, decide
from tasks.core.window import Window
from tasks.notify import announce, tell
from tasks.settings import Settings
from tasks.store import alerts
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.played import Channel, play_channels

AT = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = make_spec(
    alerts={
        "critical": ["pagerduty/ops", "slack/ml"],
        "warning": ["slack/ml", "teams/ml", "webhook/x"],
        "info": [],
    }
)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    return play_channels(monkeypatch)


def week(number: int) -> Window:
    return Window(AT + number * timedelta(days=7), AT + (number + 1) * timedelta(days=7))


def decision(**facts: object) -> Decision:
    return decide(Evidence(as_of=AT, **facts), SPEC)


def outcomes(*names: str, harm: str | None = None) -> tuple[CheckOutcome, ...]:
    return tuple(CheckOutcome(week(number), name, "", harm, "a loss") for number, name in enumerate(names))


def open_incidents(settings: Settings) -> dict[str, str]:
    found = alerts.history(open_store(settings), "churn", open_only=True)
    return {incident.cause: incident.tier for incident in found}


ROUTES = [
    ({"data_ok": False, "data_reason": "column x is gone"}, {"data": "critical"}),
    ({"label_fault": "all zero"}, {"labels": "warning"}),
    ({"performance": outcomes("drift", "drift")}, {"decay": "warning"}),
    (
        {"performance": outcomes("drift", "drift"), "futile": 2},
        {"decay": "warning", "futility": "warning"},
    ),
    ({"drift": outcomes("drift", "drift")}, {"drift": "info"}),
    ({"drift": outcomes("drift", "drift", harm="harmless")}, {"drift": "info"}),
    ({"drift": outcomes("drift", "drift", harm="harmful")}, {"harm": "warning"}),
    (
        {"drift": outcomes("drift", "drift", harm="harmful"), "performance": outcomes("ok", "ok")},
        {"drift": "info"},
    ),
    ({"has_champion": False}, {"first": "info"}),
    ({"drift": outcomes("ok"), "performance": outcomes("ok")}, {}),
    ({}, {}),
]


@pytest.mark.parametrize(("facts", "opened"), ROUTES, ids=[str(list(tiers.items())) for _, tiers in ROUTES])
def test_a_decision_is_announced_in_the_tier_of_its_cause(
    channels, settings: Settings, facts: dict, opened: dict[str, str]
) -> None:
    told = announce.fn(SPEC, decision(**facts), as_of=AT, settings=settings)
    assert open_incidents(settings) == opened
    assert [one.is_new for one in told] == [True] * len(opened)
    again = announce.fn(SPEC, decision(**facts), as_of=AT, settings=settings)
    assert [one.is_new for one in again] == [False] * len(opened)


def test_an_announced_incident_ends_when_the_evidence_shows_it_and_not_by_silence(
    channels, settings: Settings
) -> None:
    announce.fn(SPEC, decision(data_ok=False), as_of=AT, settings=settings)
    announce.fn(SPEC, decision(), as_of=AT, settings=settings)
    assert "data" in open_incidents(settings), "not checked is not repaired"
    announce.fn(
        SPEC, decision(data_ok=True, performance=outcomes("drift", "drift")), as_of=AT, settings=settings
    )
    assert open_incidents(settings) == {"decay": "warning"}
    silent = decision(data_ok=True, performance=outcomes("drift", "drift", "undecided"))
    announce.fn(SPEC, silent, as_of=AT, settings=settings)
    assert open_incidents(settings) == {"decay": "warning"}
    well = decision(data_ok=True, performance=outcomes("drift", "drift", "ok"))
    announce.fn(SPEC, well, as_of=AT, settings=settings)
    assert open_incidents(settings) == {}


def test_harmless_drift_that_becomes_harmful_is_told_again_and_louder_and_no_estimate_ends_it(
    channels, settings: Settings
) -> None:
    def told(*names: str, harm: str | None = None, **facts: object) -> dict[str, str]:
        found = decision(drift=outcomes(*names, harm=harm), **facts)
        announce.fn(SPEC, found, as_of=AT, settings=settings)
        return open_incidents(settings)

    assert told("drift", "drift", harm="harmless") == {"drift": "info"}
    assert told("drift", "drift", harm="harmful") == {"drift": "info", "harm": "warning"}
    assert told("drift", "drift", harm="harmless") == {"drift": "info", "harm": "warning"}
    fine = outcomes("ok", "ok")
    assert told("drift", "drift", harm="harmful", performance=fine) == {"drift": "info"}, "labels have spoken"
    assert told("drift", "drift", "ok") == {}


def test_an_unknown_tier_is_refused_before_anything_is_written(settings: Settings) -> None:
    with pytest.raises(ValueError, match="tier 'page'"):
        tell.fn(SPEC, "page", "data", "text", as_of=AT, settings=settings)
