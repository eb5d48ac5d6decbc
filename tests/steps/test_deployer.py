from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.clock import now_or
from tasks.core.errors import SpecError
from tasks.core.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, verify
from tasks.deployer import announce_promotion
from tasks.messages import deliver, webhook
from tasks.notify import Delivered, deliver_pending
from tasks.settings import Settings
from tasks.store import deliveries
from tasks.store.engine import open_store
from tests.make import make_spec
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


def announced(settings: Settings, *, version: int = 4, decision_id: str = "d1") -> bool:
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
        "digest": "sha256:abc", "at": "2026-03-01T12:00:00+00:00",
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


def test_a_deployer_that_is_taken_away_leaves_nothing_waiting(deployer: Service, tmp_path: Path) -> None:
    deployer.statuses = [503]
    assert not announced(place(tmp_path, deployer.url))
    gone = place(tmp_path, None)
    assert deliver_pending.fn(SPEC, as_of=later(2), settings=gone) == Delivered()
    assert deliveries.due(open_store(gone), "churn", later(600)) == []
