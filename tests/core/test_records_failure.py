"""What the run page says of a run that failed, and how the same run is asked for again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prefect.cli._utilities import load_json_key_values

from tasks.core.errors import FetchError, SourceUnavailable, TrainingError
from tasks.core.records.again import command_again
from tasks.core.records.failure import (
    Cause,
    Failure,
    cause_of_crash,
    cause_of_error,
    described_source,
    failure_markdown,
    without_secrets,
)
from tasks.core.records.text import code
from tests.make import make_spec

CALLS = "def train_challenger():\n    fit()\n\ndef _tried():\n    train_challenger()\n"
HOSTILE = '<img src=x onerror=alert(1)> | `x` ](javascript:1) "'


def test_an_error_of_ours_is_told_as_it_was_meant_with_what_was_behind_it() -> None:
    err = SourceUnavailable(
        "no answer from postgresql://me:hunter2@db/crm?sslpassword=hunter3", "rows", "check the network",
        model="churn", window="2026-01-01T00:00Z..2026-01-08T00:00Z",
    )  # fmt: skip
    err.__cause__ = ConnectionError("password hunter2")
    cause = cause_of_error(err)
    assert cause.found == "no answer from postgresql://…@db/crm (ConnectionError)"
    assert (cause.expected, cause.todo) == ("rows", "check the network")
    assert cause.window == "2026-01-01T00:00Z..2026-01-08T00:00Z"


def test_a_strange_error_is_named_by_type_and_never_by_its_text() -> None:
    for err in (ValueError("could not convert 'jane@example.org'"), KeyError("jane@example.org")):
        cause = cause_of_error(err)
        assert cause.kind == type(err).__name__
        assert "jane" not in str(cause)


def test_the_place_of_an_error_is_the_innermost_line_of_ours_and_the_step_what_the_flow_called() -> None:
    space: dict[str, Any] = {"__name__": "tasks.train", "TrainingError": TrainingError}
    exec("def fit():\n    raise TrainingError('no rows')\n\n" + CALLS, space)  # noqa: S102
    flow: dict[str, Any] = {"__name__": "flows.retrain", "train_challenger": space["_tried"]}
    exec("def retrain():\n    train_challenger()\n", flow)  # noqa: S102
    with pytest.raises(TrainingError) as caught:
        flow["retrain"]()
    cause = cause_of_error(caught.value)
    assert cause.step == "train_challenger"
    assert cause.place == "tasks.train, line 2 (fit)"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Flow run process exited with non-zero status code -9.", "-9 (killed, often for want of memory)"),
        ("Flow run process exited with non-zero status code 137.", "137 (killed"),
        ("Flow run process exited with non-zero status code 3.", "3 (see the worker's log)"),
        ("No heartbeat for 90 s", "no sign of life"),
        ("x=jane@example.org", "the process ended, or its worker or machine went away"),
    ],
)
def test_a_crash_is_told_by_its_status_and_by_nothing_else_of_the_message(message: str, said: str) -> None:
    found = cause_of_crash(message).found
    assert said in found
    assert "jane" not in found


def test_a_source_is_described_without_user_password_and_query() -> None:
    spec = make_spec(
        source={
            "url": "postgresql+psycopg://me:${PW}@db.example.org/crm?sslmode=require", "table": "events",
            "key": "event_id", "timestamp": "event_time",
        }
    )  # fmt: skip
    assert described_source(spec) == "source postgresql+psycopg://…@db.example.org/crm, table events"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_a_password_in_an_address_never_stands_on_the_page(word: str) -> None:
    for text in (f"x://me:{word}@db/c", f"x://me:{word}@a@db/c"):
        assert without_secrets(text) in {"x://…@db/c", "x://…"}
    assert without_secrets(f"read x://db/c?token={word}") in {"read x://db/c", "read x://…"}


def test_the_page_answers_in_the_order_one_asks() -> None:
    cause = Cause(
        "FetchError", HOSTILE, "mend it", "a table", step="fetch_training", place="tasks.fetch, line 88"
    )
    failure = Failure(
        "churn", "retrain", "failed", cause, "source x, table t", "the 28d before now", "version 3"
    )
    text = failure_markdown(replace(failure, command="prefect deployment run 'retrain/churn'"))
    asked = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert asked[2:] == [
        "| Which data?",
        "| From where?",
        "| Which step?",
        "| Found",
        "| Expected",
        "| What now?",
        "| Still serving",
    ]
    assert "`fetch_training`, `tasks.fetch, line 88`" in text
    assert "<img" not in text.replace("\\<", "")
    assert text.endswith("Run it again: `prefect deployment run 'retrain/churn'`")


AGAIN = [
    ("retrain", {}, ""),
    ("retrain", {"decision_id": "", "as_of": None, "reason": "manual", "dry_run": False}, ""),
    (
        "retrain",
        {"decision_id": "train-decay-1", "as_of": "2026-01-12T00:00:00Z", "reason": "score fell"},
        "decision_id=train-decay-1 as_of=2026-01-12T00:00:00+00:00 reason='score fell'",
    ),
    ("retrain", {"as_of": datetime(2026, 1, 12, tzinfo=UTC)}, "as_of=2026-01-12T00:00:00+00:00"),
    ("retrain", {"dry_run": True, "force": True}, "dry_run=true force=true"),
    ("retrain", {"spec": {"name": "demo"}, "secret": "x"}, ""),
    ("retrain", {"decision_id": "x; rm -rf .", "as_of": "jane@example.org", "reason": ["x"]}, ""),
    ("retrain", {"reason": "a\nb"}, ""),
    ("retrain", {"reason": "read x://me:pass@db/c"}, "reason='read x://…@db/c'"),
    ("monitor", {"as_of": "2026-01-12T00:00:00Z", "reason": "x"}, "as_of=2026-01-12T00:00:00+00:00"),
    ("rollback", {"to_version": 2, "reason": "x", "actor": "ann", "dry_run": False}, ""),
]


@pytest.mark.parametrize(("flow", "parameters", "said"), AGAIN)
def test_the_same_run_is_asked_for_again_with_what_it_was_asked(
    flow: str, parameters: dict[str, object], said: str
) -> None:
    pairs = [pair.partition("=")[::2] for pair in shlex.split(said)]
    asked = command_again(flow, "demo", parameters, deployed=True)
    options = [word for name, value in pairs for word in ("--param", f"{name}={value}")]
    assert shlex.split(asked) == ["prefect", "deployment", "run", f"{flow}/demo", *options]
    here = command_again(flow, "demo", parameters, deployed=False)
    options = [
        word
        for name, value in pairs
        for word in (f"--{name.replace('_', '-')}", *([] if value == "true" else [value]))
    ]
    assert shlex.split(here) == ["python", f"flows/{flow}.py", "--model", "demo", *options]


def test_the_command_reads_as_one_would_type_it() -> None:
    asked = {"decision_id": "train-decay-1", "reason": "score fell"}
    assert command_again("retrain", "demo", asked, deployed=True) == (
        "prefect deployment run 'retrain/demo' --param decision_id=train-decay-1 --param 'reason=score fell'"
    )
    assert command_again("retrain", "demo", asked, deployed=False) == (
        "python flows/retrain.py --model demo --decision-id train-decay-1 --reason 'score fell'"
    )
    assert command_again("retrain", "unknown", asked, deployed=True) == ""


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=40))
@example("` $(touch x) `")
@example("it's | so")
@example('say "so"; exit')
@example("--dry-run")
def test_no_reason_runs_anything_or_becomes_another_parameter(reason: str) -> None:
    for deployed in (True, False):
        command = command_again("retrain", "demo", {"reason": reason}, deployed=deployed)
        shown = code(command).strip("`")
        words, plain = (shlex.split(command_again("retrain", "demo", asked, deployed=deployed))
                        for asked in ({"reason": "x"}, {}))  # fmt: skip
        assert shlex.split(shown) == shlex.split(command), "as it stands on the page"
        assert shlex.split(shown)[: len(plain)] == plain
        assert len(shlex.split(shown)) <= len(words)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=40))
@example("123")
@example("null")
@example("NaN")
@example("[1] said 2")
@example('say "so"')
@example("C:\\new")
@example("a=b")
def test_prefect_reads_the_reason_as_it_was_given(reason: str) -> None:
    words = shlex.split(command_again("retrain", "demo", {"reason": reason}, deployed=True))
    read = load_json_key_values(words[5:6], "parameter")
    told = " ".join(reason.replace("`", "'").replace("|", "¦").split())
    assert read == ({"reason": told} if told and told != "manual" else {}) or "://" in reason


def test_a_page_about_a_run_that_names_no_model_still_says_what_was_found() -> None:
    cause = cause_of_error(FetchError("no file"))
    text = failure_markdown(Failure("unknown", "retrain", "failed", cause))
    assert "FetchError: no file" in text
    assert "not known: the parameters name no valid model" in text
    assert "Run it again" not in text
