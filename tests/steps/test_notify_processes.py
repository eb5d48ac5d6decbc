"""Messages where processes die or run side by side; the receiver is a real HTTP service."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from tasks import notify
from tasks.clock import now_or
from tasks.messages import channels as kinds
from tasks.messages import deliver
from tasks.notify import Delivered, deliver_pending, settle, tell
from tasks.settings import Settings
from tasks.store import alerts
from tasks.store.engine import open_store
from tests.faults.retraining import clean_processes
from tests.make import make_spec
from tests.receivers import Service, service

AT = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = make_spec(alerts={"warning": ["webhook/ops"]})
KILLED = 137


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Service]:
    """The service behind `webhook/ops`."""
    open_store(settings)
    with service() as running:
        block = block_of(running.url)
        monkeypatch.setattr(kinds, "load", lambda name: block)
        yield running


def later(minutes: float) -> datetime:
    return now_or(None) + timedelta(minutes=minutes)


def in_child(work: Callable[[], object]) -> int:
    """Return the process id of a child that does this work and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def titles(far: Service) -> Counter[str]:
    return Counter(one.json["title"] for one in far.got)


def dies(*args: object, **options: object) -> None:
    os._exit(KILLED)


def telling(settings: Settings) -> Callable[[], object]:
    return lambda: tell.fn(SPEC, "warning", "decay", "score fell", as_of=AT, settings=settings)


def test_a_process_that_dies_before_it_sends_leaves_the_message_to_the_next(
    far: Service, settings: Settings, monkeypatch
) -> None:
    with monkeypatch.context() as killing:
        killing.setattr(notify, "send_rows", dies)
        assert ended(in_child(telling(settings))) == KILLED
    assert far.got == []
    assert [one.cause for one in alerts.history(open_store(settings), "churn", open_only=True)] == ["decay"]
    assert deliver_pending.fn(SPEC, settings=settings) == Delivered(("webhook/ops",))
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()
    assert titles(far) == {"[warning] churn: decay": 1}


def test_a_process_that_dies_while_it_sends_is_followed_when_its_claim_has_run_out(
    far: Service, settings: Settings, monkeypatch
) -> None:
    with monkeypatch.context() as killing:
        killing.setattr(deliver, "send", dies)
        assert ended(in_child(telling(settings))) == KILLED
    assert deliver_pending.fn(SPEC, as_of=later(4), settings=settings) == Delivered(), "somebody may have it"
    assert deliver_pending.fn(SPEC, as_of=later(6), settings=settings) == Delivered(("webhook/ops",))
    assert titles(far) == {"[warning] churn: decay": 1}


def test_a_process_that_dies_after_it_sent_is_no_reason_to_forget_the_end(
    far: Service, settings: Settings, monkeypatch
) -> None:
    with monkeypatch.context() as killing:
        killing.setattr(deliver.deliveries, "delivered", dies)
        assert ended(in_child(telling(settings))) == KILLED
    assert titles(far) == {"[warning] churn: decay": 1}
    assert settle.fn(SPEC, "decay", as_of=AT, settings=settings)
    assert deliver_pending.fn(SPEC, as_of=later(6), settings=settings) == Delivered(("webhook/ops",))
    assert titles(far) == {"[warning] churn: decay": 1, "[resolved] churn: decay": 1}


def block_of(url: str) -> CustomWebhookNotificationBlock:
    return CustomWebhookNotificationBlock(
        name="ops", url=url, json_data={"title": "{{subject}}", "text": "{{body}}"}
    )


def in_clean_process(name: str, url: str, *args: Any) -> None:
    """Run this task of `tasks.notify` where `webhook/ops` is the service at this address."""
    with patch.object(kinds, "load", lambda _: block_of(url)):
        getattr(notify, name).fn(SPEC, *args[:-1], **args[-1])


def at_once(name: str, far: Service, *args: Any, **options: Any) -> list[int | None]:
    """Return the exit codes of four processes that run this task side by side.

    They are forked from a process without threads: one forked from this process may inherit a lock that a
    thread of Prefect held, and then waits for it until its send is given up.
    """
    made = [
        clean_processes().Process(target=in_clean_process, args=(name, far.url, *args, options))
        for _ in range(4)
    ]
    for process in made:
        process.start()
    for process in made:
        process.join(120)
    return [process.exitcode for process in made]


def test_four_processes_that_deliver_at_once_send_every_message_once(
    far: Service, settings: Settings
) -> None:
    far.statuses = [500]
    causes = [f"cause {number}" for number in range(12)]
    for cause in causes:
        tell.fn(SPEC, "warning", cause, cause, as_of=AT, settings=settings)
    assert len(far.got) == len(causes)
    far.got.clear()
    far.statuses = [200]
    assert at_once("deliver_pending", far, as_of=later(2), settings=settings) == [0] * 4
    assert titles(far) == {f"[warning] churn: {cause}": 1 for cause in causes}
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()


def test_four_processes_that_find_one_incident_tell_it_once(far: Service, settings: Settings) -> None:
    told = ("warning", "decay", "score fell")
    assert at_once("tell", far, *told, as_of=AT, settings=settings) == [0] * 4
    assert titles(far) == {"[warning] churn: decay": 1}
