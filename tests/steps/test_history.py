"""Every question about a model's past has its answer in the store, in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from flows.history import history
from tasks.core.errors import RegistryError, SpecError
from tasks.history import compare, served, why
from tasks.history.answer import Answer
from tasks.history.past import Past, read_past
from tasks.store import checks, ledger, lifecycle
from tasks.store.engine import close_stores, open_store
from tests.histories import COMMIT, DAY, START, a_past, decided, ended, noted

SERVED_5 = START + 5 * DAY + timedelta(hours=3)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The store that the commands of this test look into."""
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield open_store()
    close_stores()


@pytest.fixture
def past(engine: Engine) -> Past:
    """Twelve versions, of which the odd ones served and 11 does."""
    a_past(engine, 12)
    return read_past(engine, "churn")


def text(answer: Answer) -> str:
    return answer.text()


# Which version served.


def test_what_served_at_a_moment_is_told_with_who_why_data_and_code(past: Past) -> None:
    answer = served.served(past, SERVED_5)
    assert {name: answer.data[name] for name in ("version", "actor", "reason", "decision_id", "before")} == {
        "version": 5,
        "actor": "gate",
        "reason": "because of 5",
        "decision_id": "train-5",
        "before": 3,
    }
    assert answer.data["since"] == START + 5 * DAY + timedelta(minutes=6)
    assert answer.data["until"] == START + 7 * DAY + timedelta(minutes=6)
    assert answer.data["commit"] == COMMIT.format(5)
    assert (answer.data["snapshot"], answer.data["rows"]) == (f"{5:064x}", 1005)
    for part in (
        "version 5 served at 2025-01-06 03:00Z",
        "by gate instead of version 3",
        "because of 5",
        "1005 rows",
        "lock bbbbbbbbbbbb",
    ):
        assert part in text(answer)


@pytest.mark.parametrize(
    ("shift", "version"), [(-1, 3), (0, 5), (60, 5), (2 * 86_400 - 1, 5), (2 * 86_400, 7)], ids=str
)
def test_a_version_serves_from_its_promotion_up_to_the_next(past: Past, shift: int, version: int) -> None:
    moment = START + 5 * DAY + timedelta(minutes=6, seconds=shift)
    assert served.served(past, moment).data["version"] == version


def test_before_the_first_promotion_nothing_served_and_that_is_an_answer(past: Past) -> None:
    answer = served.served(past, START)
    assert answer.data["version"] is None
    assert text(answer) == (
        "churn: no version served at 2025-01-01 00:00Z, the first promotion was 2025-01-02 00:06Z\n"
    )


def test_after_a_rollback_the_version_brought_back_served(past: Past, engine: Engine) -> None:
    at = START + 20 * DAY
    ended(engine, 9, "rolled_back", 11, decision_id="rollback-1", actor="ann", reason="complaints", at=at)
    answer = served.served(read_past(engine, "churn"), at + DAY)
    assert (answer.data["version"], answer.data["actor"], answer.data["until"]) == (9, "ann", None)
    assert "brought back" in text(answer)
    assert "because       complaints\n" in text(answer)


def test_of_two_promotions_at_one_moment_the_one_recorded_last_counts(engine: Engine) -> None:
    for number in (1, 2):
        noted(engine, number)
        ended(engine, number, "promoted", None, at=SERVED_5)
    assert served.served(read_past(engine, "churn"), SERVED_5).data["version"] == 2


def test_a_move_dated_back_serves_from_when_it_followed_the_one_before(past: Past, engine: Engine) -> None:
    at = START + 20 * DAY
    ended(engine, 10, "promoted", 11, decision_id="promotion-v10", actor="ann", at=at)
    # The gate's date is the check's, which lies before what a person did meanwhile.
    ended(engine, 12, "promoted", 10, decision_id="train-12b", at=at - DAY)
    ended(engine, 8, "promoted", 12, decision_id="promotion-v8", actor="ann", at=at + DAY)
    past = read_past(engine, "churn")
    for moment, version in ((at - DAY / 2, 11), (at, 12), (at + DAY / 2, 12), (at + DAY, 8)):
        assert served.served(past, moment).data["version"] == version
        assert ledger.serving_at(engine, "churn", moment) == version
    answer = served.served(past, at)
    assert (answer.data["since"], answer.data["until"], answer.data["dated"]) == (at, at + DAY, at - DAY)
    assert "dated     2025-01-20 00:00Z, entered after the move before it\n" in text(answer)
    assert served.production(engine).data[0]["since"] == at + DAY
    assert why.show(past, 12, engine).data["served_from"] == [at]


def test_the_newest_move_serves_now_even_where_it_is_dated_back(past: Past, engine: Engine) -> None:
    ended(engine, 12, "promoted", 11, decision_id="train-12b", at=START)
    past = read_past(engine, "churn")
    for moment in (START + 12 * DAY, START + 99 * DAY):
        assert served.served(past, moment).data["version"] == past.serving == 12
        assert ledger.serving_at(engine, "churn", moment) == 12
    assert served.served(past, START + 3 * DAY).data["version"] == 1
    assert ledger.serving_at(engine, "churn", START + 3 * DAY) == 1
    assert served.production(engine).data[0]["since"] == START + 11 * DAY + timedelta(minutes=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(days=st.lists(st.integers(0, 9), max_size=8), day=st.integers(-1, 10))
def test_history_and_the_ledger_agree_on_who_served_whatever_the_dates(
    engine: Engine, days: list[int], day: int
) -> None:
    model = uuid4().hex
    for number, at in enumerate(days, start=1):
        ended(engine, number, "promoted", None, model=model, at=START + at * DAY)
    moment = START + day * DAY
    told = served.served(read_past(engine, model), moment).data["version"] if days else None
    assert ledger.serving_at(engine, model, moment) == told
    assert days == sorted(days) or told is None or max(days[:told]) <= day


def test_a_version_the_catalog_lacks_is_told_from_the_ledger(engine: Engine) -> None:
    ended(engine, 1, "promoted", None)
    answer = served.served(read_past(engine, "churn"), START + 9 * DAY)
    assert (answer.data["version"], answer.data["commit"], answer.data["dirty"]) == (
        1,
        COMMIT.format(1),
        False,
    )


def test_production_names_every_model_and_what_serves(past: Past, engine: Engine) -> None:
    noted(engine, 1, "fraud")
    answer = served.production(engine)
    assert [(one["model"], one["version"]) for one in answer.data] == [("churn", 11), ("fraud", None)]
    assert answer.lines[1].split()[:2] == ["churn", "11"]
    assert "gate" in answer.lines[1]


# The versions beside each other.


def test_versions_tell_stage_promise_gate_and_code(past: Past) -> None:
    answer = compare.versions(past)
    assert [one["version"] for one in answer.data] == list(range(1, 13))
    assert [one["stage"] for one in answer.data] == [*["ARCHIVED"] * 10, "PRODUCTION", "ARCHIVED"]
    assert [one["gate"] for one in answer.data[:2]] == ["promote", "keep"]
    assert [one["ledger"] for one in answer.data[:2]] == ["promoted", "kept"]
    assert answer.data[4]["commit"] == COMMIT.format(5)
    assert len(answer.lines) == 13
    assert (
        len({line.index(word) for line, word in zip(answer.lines[1:3], ("ARCH", "ARCH"), strict=True)}) == 1
    )


def test_a_stage_on_record_counts_and_without_one_the_ledger_tells(engine: Engine) -> None:
    for number in (1, 2, 3):
        noted(engine, number)
    ended(engine, 2, "waiting", None)
    lifecycle.advance(
        engine,
        "churn",
        3,
        "CANDIDATE",
        expected_stage=None,
        actor="retrain",
        reason="registered",
        decision_id="train-3",
        at=START,
    )
    past = read_past(engine, "churn")
    assert [past.stage(number) for number in (1, 2, 3)] == ["CANDIDATE", "STAGING", "CANDIDATE"]
    shown = why.show(past, 3, engine)
    assert "CANDIDATE 2025-01-01 00:00Z" in text(shown)
    assert json.loads(shown.text(as_json=True))["stages"][0]["actor"] == "retrain"


def test_the_best_of_a_period_is_the_highest_score_of_those_created_in_it(past: Past) -> None:
    answer = compare.best(past, "roc_auc", START + 3 * DAY, START + 7 * DAY)
    assert [one["version"] for one in answer.data["versions"]] == [6, 5, 4, 3]
    assert "version 6 has the best roc_auc of 4" in answer.lines[0]
    assert answer.data["versions"][0]["low"] == 0.69
    falling = compare.best(past, "accuracy", limit=2)  # measured too, though nothing was promised in it
    assert [one["version"] for one in falling.data["versions"]] == [1, 2]
    assert falling.data["versions"][0]["low"] is None


def test_what_was_realised_stands_beside_what_was_promised(past: Past, engine: Engine) -> None:
    measured = checks.recent(engine, "churn", "performance", 99, START + 99 * DAY)
    answer = compare.best(past, "roc_auc", realised=measured)
    by_version = {one["version"]: (one["realised"], one["windows"]) for one in answer.data["versions"]}
    assert by_version[9] == (0.66, 1)
    assert by_version[11] == (None, 0)


def test_a_metric_nobody_measured_is_refused_with_those_that_were(past: Past) -> None:
    with pytest.raises(SpecError, match="one of accuracy, roc_auc"):
        compare.best(past, "rocauc")
    with pytest.raises(SpecError, match="a start before its end"):
        compare.best(past, "roc_auc", START + DAY, START)
    empty = compare.best(past, "roc_auc", START - 9 * DAY, START)
    assert empty.lines == ("churn: no version was created from 2024-12-23 00:00Z until 2025-01-01 00:00Z",)


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        ("quarter", "2026-02-03T10:00", "2025-10-01", "2026-01-01"),
        ("quarter", "2026-04-01T00:00", "2026-01-01", "2026-04-01"),
        ("quarter", "2026-12-31T23:59", "2026-07-01", "2026-10-01"),
        ("month", "2026-01-31T01:00", "2025-12-01", "2026-01-01"),
        ("month", "2026-03-31T01:00", "2026-02-01", "2026-03-01"),
        ("year", "2026-02-03T10:00", "2025-01-01", "2026-01-01"),
        ("week", "2026-02-02T00:00", "2026-01-26", "2026-02-02"),
        ("week", "2026-02-08T23:00", "2026-01-26", "2026-02-02"),
    ],
)
def test_the_last_period_is_the_whole_one_before_now(period: Any, now: str, start: str, end: str) -> None:
    edges = compare.last(period, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert [f"{edge:%Y-%m-%d}" for edge in edges] == [start, end]


# Why.


def test_why_a_version_was_kept_out_is_told_down_to_the_check_that_began_it(
    past: Past, engine: Engine
) -> None:
    answer = why.why(past, 10, engine)
    assert (answer.data["ended"], answer.data["against"], answer.data["stage"]) == ("kept", 9, "ARCHIVED")
    assert answer.data["gate"]["reasons"] == ["difference +0.010", "all the same"]
    assert [link["what"] for link in answer.data["chain"]] == ["kept", "gate", "decision", "check"]
    assert answer.data["chain"][2]["reasons"] == ["2 of 3 windows bad"]
    assert answer.data["chain"][3]["reason"] == "0.66 is below 0.70"
    said = " ".join(text(answer).split())
    for part in (
        "version 10 not promoted: the champion was kept",
        "gate, 2025-01-11 00:06Z: because of 10",
        "compared it with version 9: keep",
        "difference +0.010",
        "rows that would tell 1700",
        "+0.001, between -0.01 and 0.02",
        "region=north",
        "decision train-10: TRAIN because of decay",
        "performance check of 2025-01-10T00:00Z..2025-01-11T00:00Z said drift",
    ):
        assert part in said


def test_a_retraining_by_hand_has_a_shorter_chain(past: Past, engine: Engine) -> None:
    answer = why.why(past, 7, engine)
    assert [link["what"] for link in answer.data["chain"]] == ["promoted", "gate", "asked"]
    assert "train-7, asked for by decay" in text(answer)


def test_a_refusal_after_an_approval_is_told_with_every_row(engine: Engine) -> None:
    noted(engine, 1)
    ended(engine, 1, "waiting", None)
    ended(engine, 1, "rejected", None, decision_id="approval-v1", actor="bob", reason="too slow")
    answer = why.why(read_past(engine, "churn"), 1, engine)
    assert [row["action"] for row in answer.data["ledger"]] == ["waiting", "rejected"]
    assert "version 1 rejected" in answer.lines[0]
    assert "bob" in text(answer)
    assert "too slow" in text(answer)


def test_a_version_that_was_rolled_back_says_so_by_whom_and_why(past: Past, engine: Engine) -> None:
    at = START + 20 * DAY
    ended(engine, 9, "rolled_back", 11, decision_id="rollback-1", actor="ann", reason="complaints", at=at)
    past = read_past(engine, "churn")
    for answer in (why.why(past, 11, engine), why.show(past, 11, engine)):
        assert "churn: version 11 promoted, then rolled back to version 9" in answer.lines
        assert "  ann, 2025-01-21 00:00Z: rolled back to version 9: complaints" in answer.lines
        assert answer.data["ended"] == "promoted"
        (left,) = answer.data["left"]
        assert (left["action"], left["actor"], left["reason"]) == ("rolled_back", "ann", "complaints")
        assert left["to_version"] == 9
    assert why.why(past, 9, engine).lines[0] == "churn: version 9 brought back by a rollback"


def test_a_version_that_was_gone_when_it_was_rolled_back_says_so_too(past: Past, engine: Engine) -> None:
    ended(
        engine, 9, "rolled_back", None, decision_id="auto-rollback-1", actor="monitor",
        evidence={"instead_of": 11}, at=START + 20 * DAY,
    )  # fmt: skip
    answer = why.why(read_past(engine, "churn"), 11, engine)
    assert [one["actor"] for one in answer.data["left"]] == ["monitor"]


def test_a_version_that_another_replaced_says_by_whom_and_why(past: Past, engine: Engine) -> None:
    answer = why.why(past, 7, engine)
    assert answer.lines[0] == "churn: version 7 promoted, then replaced by version 9"
    assert "  gate, 2025-01-10 00:06Z: replaced by version 9: because of 9" in answer.lines
    assert [one["action"] for one in answer.data["left"]] == ["promoted"]
    assert why.why(past, 11, engine).data["left"] == []


def test_show_tells_everything_that_is_kept_of_a_version(past: Past, engine: Engine) -> None:
    answer = why.show(past, 5, engine)
    said = text(answer)
    for part in ("roc_auc 0.7005 (0.69 to 0.75)", "max_iter=30", "accuracy 0.8995", "run-5", "c" * 64):
        assert part in said
    assert "0.8 on the frozen rows aaaaaaaaaaaa" in said
    assert json.loads(answer.text(as_json=True))["facts"]["run_id"] == "run-5"


def test_a_version_nobody_knows_is_an_error_that_says_which_there_are(past: Past, engine: Engine) -> None:
    with pytest.raises(RegistryError, match="there are 12, 1 to 12"):
        why.why(past, 99, engine)
    ended(engine, 13, "kept", 11)
    with pytest.raises(RegistryError, match="backfill --model churn"):
        why.show(read_past(engine, "churn"), 13, engine)


# The terminal.


def test_the_commands_answer_from_the_terminal_in_text_and_json(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    assert history(["served", "--model", "churn", "--at", "2025-01-06T03:00"]) == 0
    assert capsys.readouterr().out.startswith("churn: version 5 served at 2025-01-06 03:00Z\n")
    assert history(["versions", "--model", "churn", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 12
    assert history(["production", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["version"] == 11
    assert history(["best", "--model", "churn", "--metric", "roc_auc", "--since", "2025-01-01Z"]) == 0
    assert "version 12 has the best roc_auc of 12" in capsys.readouterr().out
    assert history(["why", "--model", "churn", "10"]) == 0
    assert "kept" in capsys.readouterr().out
    assert history(["show", "--model", "churn", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["number"] == 10


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["served", "--model", "chrun"], "no history of a model 'chrun'; expected one of churn"),
        (["why", "--model", "churn", "77"], "version 77"),
        (["best", "--model", "churn", "--metric", "r2"], "one of accuracy, roc_auc"),
        (
            ["best", "--model", "churn", "--metric", "roc_auc", "--last", "week", "--since", "2025-01-01"],
            "--last",
        ),
        (["served", "--model", "churn", "--config", "none.yaml"], "no file none.yaml"),
        (["before", "--model", "churn", "-x"], ""),
    ],
    ids=["model", "version", "metric", "period", "config", "option"],
)
def test_an_error_is_one_line_and_exit_code_2(
    past: Past, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    try:
        code: Any = history(argv)
    except SystemExit as stopped:  # argparse's own
        code = stopped.code
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert says in told.err
    if says:
        assert told.err.count("\n") == 1


@pytest.mark.parametrize("bad", ["0", "-1", "x", "1.5", "99999999999999999999", "²"])
def test_a_number_that_is_none_is_refused(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        history(["why", "--model", "churn", "--", bad])
    assert stopped.value.code == 2
    assert "is not a number from 1" in capsys.readouterr().err


def test_the_key_of_a_block_stands_for_the_name_it_registers(
    past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prefect.yaml").write_text("definitions: {models: {first: {name: churn}, churn2: {}}}")
    assert history(["versions", "--model", "first", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 12
    assert history(["versions", "--model", "churn"]) == 0
    assert history(["versions", "--model", "churn2"]) == 2


def test_what_a_name_or_reason_holds_cannot_forge_a_line(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(engine, 1)
    ended(engine, 1, "promoted", None, actor="eve\nchurn: version 9", reason="a\x1b[31mb\tc")
    assert history(["served", "--model", "churn"]) == 0
    assert history(["why", "--model", "churn", "1"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert not any(line.startswith("churn: version 9") for line in out.splitlines())


def test_five_hundred_versions_are_listed_and_judged_as_twelve_are(engine: Engine) -> None:
    a_past(engine, 500)
    past = read_past(engine, "churn")
    assert len(compare.versions(past).data) == 500
    assert served.served(past, START + 301 * DAY + DAY / 2).data["version"] == 301
    assert compare.best(past, "roc_auc").data["versions"][0]["version"] == 500
    assert len(ledger.history(engine, "churn")) == 500
    decided(engine, 501)
    assert why.why(past, 490, engine).data["chain"][-1]["what"] == "check"
