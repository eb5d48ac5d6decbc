"""A sign of life never fails a run and tells nobody the address; silence on record is called out."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks import heartbeat
from tasks.heartbeat import beat, main, silent
from tasks.settings import Settings
from tasks.store import flow_runs
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.receivers import service
from tests.services import WebServer, answer

ROOT = Path(__file__).parents[2]
SPEC = make_spec()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(address: str | None, settings: Settings) -> Settings:
    return settings.model_copy(update={"heartbeat": SecretStr(address) if address else None})


def beaten(address: str | None, settings: Settings, as_of: datetime | None = None) -> bool:
    return beat.fn(SPEC, as_of=as_of or datetime.now(UTC), settings=at(address, settings))


def test_a_run_tells_its_watcher_the_model_and_the_moment(settings: Settings) -> None:
    moment = datetime.now(UTC)
    with service() as far:
        assert beaten(f"{far.url}/secret-path", settings, moment)
    [request] = far.got
    assert (request.method, request.path) == ("POST", "/secret-path")
    assert request.json == {"model": "churn", "at": moment.isoformat()}


def test_a_watcher_that_takes_no_post_is_asked_by_get(settings: Settings, web_server: WebServer) -> None:
    web_server.serve(answer(b"OK"))  # knows GET alone, and answers 501 to the rest
    assert beaten(f"{web_server.url}/ping", settings)
    assert web_server.asked == ["/ping"]


def test_without_a_watcher_nothing_is_sent_and_nothing_said(settings: Settings, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        assert not beaten(None, settings)
    assert caplog.text == ""


@pytest.mark.parametrize("status", [500, 403, 302])
def test_a_watcher_that_refuses_is_asked_once_and_fails_no_run(
    settings: Settings, caplog, status: int
) -> None:
    with service() as far:
        far.statuses, far.location = [status], "https://elsewhere.test/"
        assert not beaten(f"{far.url}/secret-path", settings)
    assert len(far.got) == 1
    assert f"nobody took the sign of life: it answered {status}" in caplog.text
    assert "secret-path" not in caplog.text


def test_a_watcher_that_is_gone_or_never_answers_is_left_in_time(
    settings: Settings, caplog, monkeypatch
) -> None:
    with service() as far:
        gone = far.url
    assert not beaten(f"{gone}/secret-path", settings)
    assert "ConnectError" in caplog.text
    monkeypatch.setattr(heartbeat, "SECONDS", 0.3)
    with service() as far:
        far.hold = threading.Event()
        began = time.monotonic()
        assert not beaten(f"{far.url}/secret-path", settings)
        assert time.monotonic() - began < 5
    assert "secret-path" not in caplog.text


WRONG = {
    "http://watch.test/secret-path": "without encryption",
    "ftp://watch.test/secret-path": "no URL",
    "https://": "no URL",
    "secret-path": "no URL",
    "https://[::1/secret-path": "no URL",
    "https://watch.test:port/secret-path": "InvalidURL",
}


@pytest.mark.parametrize(("address", "why"), WRONG.items(), ids=WRONG)
def test_an_address_that_is_unsafe_or_none_is_logged_and_fails_no_run(
    settings: Settings, caplog, address: str, why: str
) -> None:
    assert not beaten(address, settings)
    assert why in caplog.text
    assert "secret-path" not in caplog.text


def test_a_run_that_acts_as_of_another_time_is_no_sign_of_life(settings: Settings) -> None:
    with service() as far:
        assert not beaten(far.url, settings, NOW)
        assert not beaten(far.url, settings, datetime.now(UTC) + timedelta(days=30))
    assert far.got == []


# The watch over the runs on record.


def ran(
    settings: Settings, model: str, started: datetime, outcome: str = "Completed", *,
    flow: str = "monitor", as_of: datetime | None = None,
) -> None:  # fmt: skip
    run = flow_runs.FlowRun(
        model, flow, f"{model}-{started}", as_of or started, started, 5.0, outcome
    )  # fmt: skip
    assert flow_runs.record(open_store(settings), run)


def heard(settings: Settings, **options: list[str]) -> list[str]:
    return silent(settings, "monitor", 3 * HOUR, as_of=NOW, **options)


def test_models_whose_monitor_was_silent_are_named_and_the_others_are_not(settings: Settings) -> None:
    ran(settings, "churn", NOW - 9 * HOUR)
    ran(settings, "churn", NOW - 3 * HOUR, "Ok: SKIP")
    ran(settings, "fraud", NOW - 28 * HOUR)
    ran(settings, "fraud", NOW - 1 * HOUR, flow="detect_drift")
    ran(settings, "*", NOW - 50 * HOUR)
    assert heard(settings) == ["fraud: monitor has been silent for 1 day 4 hours, since 2026-02-28 08:00 UTC"]
    assert heard(settings, without=["fraud"]) == []
    assert heard(settings, models=["churn"]) == []
    assert heard(settings, models=["spend"]) == ["spend: monitor never ended well: no run is on record"]


def test_runs_that_failed_are_no_sign_of_life(settings: Settings) -> None:
    for number, outcome in enumerate(("Failed", "Crashed", "TimedOut", "Cancelled")):
        ran(settings, "churn", NOW - number * HOUR / 4, outcome)
    assert heard(settings) == ["churn: monitor never ended well: every run on record failed"]
    ran(settings, "churn", NOW - 5 * HOUR)
    assert heard(settings) == ["churn: monitor has been silent for 5 hours, since 2026-03-01 07:00 UTC"]


def test_a_run_about_the_past_says_nothing_of_now_and_one_about_the_future_neither(
    settings: Settings,
) -> None:
    ran(settings, "churn", NOW, as_of=NOW - 40 * HOUR)
    ran(settings, "churn", NOW - 30 * HOUR, as_of=NOW + 40 * HOUR)
    assert heard(settings) == ["churn: monitor has been silent for 1 day 6 hours, since 2026-02-28 06:00 UTC"]


def test_a_place_where_nothing_ever_ran_is_silent_too(settings: Settings) -> None:
    assert heard(settings) == ["no run of monitor is on record for any model that is watched"]


def test_the_command_exits_with_one_and_says_who_is_silent(settings: Settings, monkeypatch, capsys) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(settings.state_dir))
    now = datetime.now(UTC)
    ran(settings, "churn", now - HOUR)
    assert main(["--max-age", "3h"]) == 0
    assert capsys.readouterr().out == "every monitor was heard of\n"
    ran(settings, "fraud", now - 4 * HOUR)
    assert main(["--max-age", "3h"]) == 1
    assert capsys.readouterr().out.startswith("fraud: monitor has been silent for 4 hours, since ")
    assert main(["--max-age", "3h", "--without", "fraud"]) == 0
    assert main(["--max-age", "3 hours"]) == 1
    assert "duration '3 hours'" in capsys.readouterr().err


def test_a_store_that_does_not_answer_is_an_alarm_as_well(monkeypatch, tmp_path: Path, capsys) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database, whatever its name says" * 50)
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path))
    assert main([]) == 1
    assert "StoreError" in capsys.readouterr().err


def test_it_runs_as_a_module(settings: Settings) -> None:
    ran(settings, "churn", datetime.now(UTC) - 30 * HOUR)
    done = subprocess.run(
        [sys.executable, "-m", "tasks.heartbeat", "--max-age", "1d"],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
        env={**os.environ, "EVERGREEN_STATE_DIR": str(settings.state_dir)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("churn: monitor has been silent for 1 day 6 hours, since ")


def test_what_is_sent_holds_nothing_but_the_model_and_the_moment(settings: Settings) -> None:
    with service() as far:
        beaten(far.url, settings)
    assert set(json.loads(far.got[0].body)) == {"model", "at"}
