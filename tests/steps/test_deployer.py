from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.clock import now_or
from tasks.core.errors import RegistryError, SpecError
from tasks.core.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, verify
from tasks.deployer import announce_promotion
from tasks.messages import deliver, promotions, webhook
from tasks.messages.deliver import DEPLOYER
from tasks.notify import Delivered, deliver_pending, tell
from tasks.settings import Settings
from tasks.store import deliveries, ledger
from tasks.store.engine import open_store, writing
from tests.make import make_spec
from tests.played import play_channels
from tests.receivers import Service, service

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "a-key-nobody-may-read"
SPEC = make_spec()


@pytest.fixture
def deployer() -> Iterator[Service]:
    with service() as running:
        running.statuses = [204]
        yield running


def place(tmp_path: Path, url: str | None, key: str | None = KEY) -> Settings:
    held = SecretStr(key) if key is not None else None
    return Settings(state_dir=tmp_path / "state", threads=1, deployer=url, deployer_key=held)


def moved(settings: Settings, *, version: int = 4, decision_id: str = "d1", **over: Any) -> None:
    """Enter a move in the ledger, as it stands there before anybody is told of it."""
    known: dict[str, Any] = {
        "action": "promoted", "from_version": 3, "actor": "gate", "reason": "better", "at": AT,
        "evidence": {"digest": "sha256:abc", "moved_at": later(0).isoformat()},
        **over,
    }  # fmt: skip
    ledger.record(open_store(settings), model="churn", decision_id=decision_id, to_version=version, **known)


def announced(settings: Settings, *, version: int = 4, decision_id: str = "d1") -> bool:
    moved(settings, version=version, decision_id=decision_id)
    return announce_promotion.fn(
        SPEC, version=version, from_version=3, action="promoted", decision_id=decision_id,
        digest="sha256:abc", as_of=AT, settings=settings,
    )  # fmt: skip


def later(minutes: float) -> datetime:
    return now_or(None) + timedelta(minutes=minutes)


def test_the_deployer_gets_one_signed_message_per_decision(deployer: Service, tmp_path: Path) -> None:
    settings = place(tmp_path, f"{deployer.url}/promotions")
    assert announced(settings)
    assert not announced(settings), "told already"
    [told] = deployer.got
    assert (told.method, told.path) == ("POST", "/promotions")
    assert told.headers["Content-Type"] == "application/json"
    assert told.json == {
        "model": "churn", "version": 4, "from_version": 3, "action": "promoted", "decision_id": "d1",
        "digest": "sha256:abc", "at": "2026-03-01T12:00:00+00:00", "sequence": 1,
    }  # fmt: skip
    stamp, signature = told.headers[TIMESTAMP_HEADER], told.headers[SIGNATURE_HEADER]
    assert verify(told.body, stamp, signature, key=KEY, now=time.time())
    assert not verify(told.body.replace(b"4", b"5"), stamp, signature, key=KEY, now=time.time())
    assert not verify(told.body, stamp, signature, key="another", now=time.time())
    assert announced(settings, version=5, decision_id="d2")
    assert len(deployer.got) == 2


def test_without_a_deployer_nothing_is_written_or_sent(deployer: Service, tmp_path: Path) -> None:
    settings = place(tmp_path, None)
    assert not announced(settings)
    assert deliveries.due(open_store(settings), "churn", later(0)) == []
    assert deployer.got == []


def test_a_deployer_that_is_down_is_told_later_with_a_fresh_signature(
    deployer: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = place(tmp_path, f"{deployer.url}/promotions")
    deployer.statuses = [503]
    with caplog.at_level(logging.DEBUG):
        assert not announced(settings), "and the promotion does not fail for it"
    assert "channel deployer was not reached: HTTPStatusError 503" in caplog.text
    assert KEY not in caplog.text
    deployer.statuses = [200]
    assert deliver_pending.fn(SPEC, as_of=later(0.5), settings=settings) == Delivered()
    assert deliver_pending.fn(SPEC, as_of=later(2), settings=settings) == Delivered(("deployer",))
    assert [one.json["version"] for one in deployer.got] == [4, 4]
    last = deployer.got[-1]
    assert verify(
        last.body, last.headers[TIMESTAMP_HEADER], last.headers[SIGNATURE_HEADER], key=KEY, now=time.time()
    )
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_that_says_so_and_is_not_followed(
    deployer: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    deployer.statuses, deployer.location = [status], f"{deployer.url}/elsewhere"
    assert not announced(place(tmp_path, f"{deployer.url}/promotions"))
    assert [one.path for one in deployer.got] == ["/promotions"]
    assert f"HTTPStatusError {status}, a redirect, which is not followed" in caplog.text


def test_a_deployer_that_does_not_answer_does_not_hold_up_the_flow(
    deployer: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    deployer.hold = threading.Event()
    monkeypatch.setattr(deliver, "CHANNEL_SECONDS", 0.5)
    begun = time.monotonic()
    assert not announced(place(tmp_path, f"{deployer.url}/promotions"))
    assert time.monotonic() - begun < 30, "the deployer holds its answer for a minute"
    deployer.hold.set()


@pytest.mark.parametrize(
    ("url", "key", "why"),
    [
        ("https://deploy.example.com/x", None, "without a key"),
        ("https://deploy.example.com/x", "", "without a key"),
        ("http://deploy.example.com/x", KEY, "without encryption"),
        ("http://127.0.0.1.example.com/x", KEY, "without encryption"),
        ("http://localhost@deploy.example.com/x", KEY, "without encryption"),
        ("https://ann:pass@deploy.example.com/x", KEY, "a user or password"),
        ("ftp://deploy.example.com/x", KEY, "no URL"),
        ("deploy.example.com", KEY, "no URL"),
        ("https://", KEY, "no URL"),
        ("https://[::1", KEY, "no URL"),
    ],
)
def test_an_unsafe_deployer_is_refused_and_the_log_says_what_to_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, key: str | None, why: str
) -> None:
    settings = place(tmp_path, url, key)
    with pytest.raises(SpecError, match=why) as caught:
        webhook.post_signed({"model": "churn"}, settings)
    assert "EVERGREEN_DEPLOYER" in str(caught.value)
    assert "pass@" not in str(caught.value)
    assert not announced(settings)
    assert why in caplog.text
    assert deliveries.due(open_store(settings), "churn", later(2)), "it waits until that is mended"


def test_a_run_without_a_deployer_leaves_the_message_to_one_that_has_it(
    deployer: Service, tmp_path: Path
) -> None:
    deployer.statuses = [503]
    at_home, elsewhere = place(tmp_path, deployer.url), place(tmp_path, None)
    assert not announced(at_home)
    deployer.statuses = [204]
    for tries in range(1, deliveries.MOST_TRIES + 2):
        assert deliver_pending.fn(SPEC, as_of=later(61 * tries), settings=elsewhere) == Delivered()
    [row] = waiting(at_home)
    assert (row.done_at, row.tries) == (None, 1), "neither dropped nor tried in vain"
    assert deliver_pending.fn(SPEC, as_of=later(2000), settings=at_home) == Delivered(("deployer",))
    assert [one.json["version"] for one in deployer.got] == [4, 4]


def test_what_waits_for_a_deployer_that_is_gone_does_not_keep_people_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home, elsewhere = place(tmp_path, "http://127.0.0.1:9/x"), place(tmp_path, None)
    channels = play_channels(monkeypatch)
    engine = open_store(at_home)
    with writing(engine) as connection:
        for number in range(300):
            topic = promotions.topic_of("churn", f"d{number}")
            contents = {DEPLOYER: {"version": number}}
            deliveries.write(connection, model="churn", topic=topic, contents=contents, at=AT)
    spec = make_spec(alerts={"warning": ["slack/ml"]})
    channels["slack/ml"].trouble = OSError("no route to host")
    tell.fn(spec, "warning", "decay", "score fell", as_of=AT, settings=elsewhere)
    channels["slack/ml"].trouble = None
    assert deliver_pending.fn(spec, as_of=later(2), settings=elsewhere) == Delivered(("slack/ml",))


@pytest.mark.parametrize("action", ["promoted", "rolled_back"])
def test_a_move_that_nobody_announced_before_a_crash_is_announced_by_the_next_run(
    deployer: Service, tmp_path: Path, action: ledger.Action
) -> None:
    settings = place(tmp_path, deployer.url)
    assert announced(settings)
    moved(settings, version=5, decision_id="d2", from_version=4, action=action)
    moved(settings, version=6, decision_id="d3", action="kept")
    assert deliver_pending.fn(SPEC, settings=settings) == Delivered(("deployer",))
    assert deliver_pending.fn(SPEC, settings=settings) == Delivered(), "once"
    assert deployer.got[-1].json == {
        "model": "churn", "version": 5, "from_version": 4, "action": action, "decision_id": "d2",
        "digest": "sha256:abc", "at": "2026-03-01T12:00:00+00:00", "sequence": 2,
    }  # fmt: skip
    assert len(deployer.got) == 2


def test_the_missed_message_is_the_same_as_the_announced_one(deployer: Service, tmp_path: Path) -> None:
    one, other = place(tmp_path / "1", deployer.url), place(tmp_path / "2", deployer.url)
    assert announced(one)
    moved(other)
    deliver_pending.fn(SPEC, settings=other)
    assert deployer.got[0].json == deployer.got[1].json


def test_a_move_is_announced_once_where_the_next_run_was_faster(deployer: Service, tmp_path: Path) -> None:
    settings = place(tmp_path, deployer.url)
    moved(settings)
    assert deliver_pending.fn(SPEC, settings=settings) == Delivered(("deployer",))
    assert not announced(settings), "told already"
    assert len(deployer.got) == 1


@pytest.mark.parametrize(
    ("days_ago", "moved_days_ago", "told"),
    [(6.9, None, True), (7.1, None, False), (400, 6.9, True), (0, 7.1, False), (400, None, False)],
)
def test_a_deployer_that_is_switched_on_later_gets_no_history(
    deployer: Service, tmp_path: Path, days_ago: float, moved_days_ago: float | None, told: bool
) -> None:
    settings = place(tmp_path, deployer.url)
    evidence = {"digest": "sha256:abc"}
    if moved_days_ago is not None:  # by the clock; `at` is whatever moment was acted as of
        evidence["moved_at"] = later(-moved_days_ago * 24 * 60).isoformat()
    moved(settings, at=later(-days_ago * 24 * 60), evidence=evidence)
    deliver_pending.fn(SPEC, settings=settings)
    assert len(deployer.got) == told


def test_the_sequence_is_the_order_of_the_moves_whatever_moment_they_act_as_of(
    deployer: Service, tmp_path: Path
) -> None:
    settings = place(tmp_path, deployer.url)
    for number, days in enumerate((5, 1, 3)):
        moved(settings, version=number, decision_id=f"r{number}", action="refused", at=AT)
        moved(settings, version=number, decision_id=f"d{number}", at=AT - timedelta(days=days))
        deliver_pending.fn(SPEC, settings=settings)
    assert [one.json["sequence"] for one in deployer.got] == [1, 2, 3]
    assert [one.json["version"] for one in deployer.got] == [0, 1, 2]


def test_a_move_that_the_ledger_does_not_know_is_not_announced(deployer: Service, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="d9"):
        announce_promotion.fn(
            SPEC, version=4, from_version=3, action="promoted", decision_id="d9", digest="x", as_of=AT,
            settings=place(tmp_path, deployer.url),
        )  # fmt: skip
    assert deployer.got == []


def waiting(settings: Settings) -> list[deliveries.Delivery]:
    return deliveries.about(open_store(settings), [promotions.topic_of("churn", "d1")])
