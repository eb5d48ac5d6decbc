"""Looking again under the same name: what is found by now counts, once; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.core.policy.alerting import Look
from tasks.notify import Signalled, deliver_pending, signal
from tasks.settings import Settings
from tasks.store import alerts, signals
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.receivers import Service
from tests.steps.test_notify_processes import ended, in_child
from tests.steps.test_signals import (  # noqa: F401 -- fixtures among them
    AT,
    HASTY,
    HOUR,
    PATIENT,
    bad,
    channels,
    clean,
    far,
    somewhere,
)


def test_what_a_look_finds_later_takes_the_place_of_what_it_found_before(
    channels,  # noqa: F811
    somewhere: Settings,  # noqa: F811
) -> None:
    def at(hour: int, look: Look) -> Signalled:
        return signal.fn(HASTY, [look], look="w", as_of=AT + hour * HOUR, settings=somewhere)

    missing, come = bad(message="0 of 400 labelled"), clean()
    found = [
        at(hour, look) for hour, look in [(0, missing), (1, missing), (2, come), (3, come), (1, missing)]
    ]
    opened, ended = Signalled(("service",)), Signalled(ended=("service",))
    assert found == [opened, Signalled(), ended, Signalled(), Signalled()], "an older run has no last word"
    assert [look.is_bad for _, look in signals.history(open_store(somewhere), "churn", "service")] == [False]
    [incident] = alerts.history(open_store(somewhere), "churn")
    assert (incident.opened_at, incident.resolved_at) == (AT, AT + 2 * HOUR)
    assert channels["slack/ml"].subjects == ["[warning] churn: service", "[resolved] churn: service"]
    assert at(5, bad(tier="critical", message="down")) == opened
    assert alerts.history(open_store(somewhere), "churn")[-1].opened_at == AT + 5 * HOUR
    assert len(signals.history(open_store(somewhere), "churn", "service")) == 1


def test_a_window_counts_once_for_patient_people_by_what_it_says_last(
    channels,  # noqa: F811
    settings: Settings,
) -> None:
    def at(hour: int, name: str, look: Look) -> Signalled:
        return signal.fn(PATIENT, [look], look=name, as_of=AT + hour * HOUR, settings=settings)

    assert at(0, "w0", bad()) == Signalled(held=("service",))
    assert at(1, "w0", clean()) == Signalled()
    assert at(24, "w1", bad()) == Signalled(held=("service",)), "one of two"
    assert at(25, "w0", bad()) == Signalled(("service",))


def test_two_processes_that_find_otherwise_at_once_tell_it_once(
    far: Service,  # noqa: F811
    somewhere: Settings,  # noqa: F811
) -> None:
    spec = make_spec(alerts={"warning": ["webhook/ops"]})
    signal.fn(spec, [clean()], look="w", as_of=AT, settings=somewhere)

    def look() -> None:
        signal.fn(spec, [bad()], look="w", as_of=AT + HOUR, settings=somewhere)

    children = [in_child(look) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    deliver_pending.fn(spec, as_of=datetime.now(UTC) + HOUR, settings=somewhere)
    assert [one.json["title"] for one in far.got] == ["[warning] churn: service"]
