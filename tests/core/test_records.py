"""What the run page says: in words, in text drawings, and never as markup from outside."""

from __future__ import annotations

import base64
import math
import re
import shlex
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prefect.cli._utilities import load_json_key_values

from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.shape import Shape, shapes_of
from tasks.core.drift.verdict import judge
from tasks.core.errors import FetchError, SourceUnavailable, TrainingError
from tasks.core.evaluation.gate import GateDecision
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.records.again import command_again
from tasks.core.records.comparison import comparison_markdown
from tasks.core.records.drawing import gauge, image, interval, shape_svg
from tasks.core.records.drift import drift_markdown
from tasks.core.records.failure import (
    Cause,
    Failure,
    cause_of_crash,
    cause_of_error,
    described_source,
    failure_markdown,
    without_secrets,
)
from tasks.core.records.performance import performance_markdown
from tasks.core.records.text import Ready, code, link, table
from tests.make import make_frame, make_spec

NAN = float("nan")
CALLS = "def train_challenger():\n    fit()\n\ndef _tried():\n    train_challenger()\n"
HOSTILE = '<img src=x onerror=alert(1)> | `x` ](javascript:1) "'
finite = st.floats(-1e9, 1e9)


@dataclass(frozen=True)
class Compared:
    decision: GateDecision
    metrics: dict[str, float]
    champion_metrics: dict[str, float] = field(default_factory=dict)


def gate(low: float, value: float, high: float, *, champion: float = 0.8) -> GateDecision:
    return GateDecision("keep", ("not shown to be better",), 0.81, champion, value, low, high, 1600)


def drawn(text: str) -> str:
    return next(line for line in text.splitlines() if "●" in line and "├─●─┤" not in line)


def test_an_interval_ends_left_and_right_of_the_marks_as_its_numbers_do() -> None:
    line = interval(-0.02, 0.01, 0.04, {-0.05: "┆", 0.0: "│"})
    assert [sign for sign in line if sign in "┆├│●┤"] == ["┆", "├", "│", "●", "┤"]
    beyond = interval(0.01, 0.02, 0.03, {-0.05: "┆", 0.0: "│"})
    assert [sign for sign in beyond if sign in "┆├│●┤"] == ["┆", "│", "├", "●", "┤"]


@given(st.lists(finite, min_size=3, max_size=3), finite)
def test_an_interval_is_one_line_of_a_width_whatever_the_numbers(three: list[float], mark: float) -> None:
    low, value, high = sorted(three)
    line = interval(low, value, high, {mark: "│"})
    assert len(line) == 49
    assert line.count("●") == 1


def test_an_interval_that_is_not_known_is_not_drawn() -> None:
    assert interval(NAN, 0.0, 1.0, {}) == ""


@given(st.floats(0, 1e6) | st.none() | st.just(NAN))
def test_a_gauge_is_full_to_its_middle_exactly_at_the_limit(ratio: float | None) -> None:
    text = gauge(ratio)
    assert len(text) == 13
    assert text[6] == "┃"
    assert text.count("█") == (0 if ratio is None or math.isnan(ratio) else min(12, round(ratio * 6)))


def svg_of(markdown: str) -> ElementTree.Element:
    found = re.search(r"base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found
    return ElementTree.fromstring(base64.b64decode(found[1]))  # noqa: S314 -- our own


def test_the_picture_of_a_shape_has_a_bar_for_each_side_as_long_as_its_share() -> None:
    shape = Shape("plan", ("basic", "pro"), (0.75, 0.25), (0.0, 1.0))
    bars = [
        r for r in svg_of(image(shape_svg(shape), "x")).iter() if r.get("x") == "170" and r.get("y") != "12"
    ]
    assert [round(float(bar.get("width", "0"))) for bar in bars] == [248, 0, 82, 330]
    assert "0% → 100%" not in shape_svg(shape).replace("25% → 100%", "")


@given(st.text(max_size=40))
def test_no_label_can_break_the_picture_or_its_markdown(label: str) -> None:
    markdown = image(shape_svg(Shape(label, (label,), (1.0,), (0.5,))), label)
    assert {element.tag.split("}")[1] for element in svg_of(markdown).iter()} == {"svg", "rect", "text"}
    assert re.fullmatch(r"!\[[^\]\[]*\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\)", markdown)


def test_the_comparison_draws_the_interval_against_the_margin_and_signs_the_differences() -> None:
    spec = make_spec(gate={"margin": 0.02})
    text = comparison_markdown(spec, Compared(gate(-0.01, 0.005, 0.02), {"f1": 0.6}, {"f1": 0.65}))
    assert [sign for sign in drawn(text) if sign in "┆├│●┤"] == ["┆", "├", "│", "●", "┤"]
    assert "the margin, -0.02" in text
    assert "| f1 | 0.6 | 0.65 | ▼ -0.05 |" in text
    assert "| roc_auc | 0.81 | 0.8 | ▲ +0.01 |" in text


def test_a_first_version_is_compared_with_a_guess_and_without_a_margin() -> None:
    text = comparison_markdown(make_spec(), Compared(gate(0.25, 0.3, 0.35, champion=NAN), {}))
    assert "Difference to a guess: 0.3 (0.25 to 0.35)" in text
    assert [sign for sign in drawn(text) if sign in "┆├│●┤"] == ["│", "├", "●", "┤"]


def test_a_comparison_that_could_not_be_made_draws_nothing() -> None:
    text = comparison_markdown(make_spec(), Compared(gate(NAN, NAN, NAN), {}))
    assert "●" not in text
    assert "nan" not in text


def test_performance_is_drawn_between_limit_and_promise() -> None:
    verdict = PerformanceVerdict("drift", "below", 0.6, 0.55, 0.65, 0.8, 0.76, 900)
    assert [s for s in drawn(performance_markdown(make_spec(), verdict)) if s in "┆├│●┤"] == list("├●┤┆│")


def test_the_worst_features_stand_first_with_how_far_out_they_are() -> None:
    spec, frame = make_spec(), make_frame(3000)
    reference = build_reference(frame, spec)
    profile = profile_frame(frame.assign(spend=frame["spend"] * 10, plan="basic"), reference)
    verdict = judge(reference, profile, spec)
    verdict = replace(verdict, shapes=shapes_of(reference, profile, verdict))
    text = drift_markdown(spec, verdict)
    rows = [line.split(" | ")[0] for line in text.split("<details>")[0].splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| spend", "| plan", "| region", "| tenure"]
    assert "██████┃██████" in text
    assert "largest change" in text


def test_the_model_s_own_scores_are_named_for_people() -> None:
    spec, frame = make_spec(), make_frame(3000)
    scores = np.linspace(0.0, 1.0, 3000)
    reference = build_reference(frame, spec, scores=scores)
    profile = profile_frame(frame, reference, scores=scores**4)
    verdict = judge(reference, profile, spec)
    text = drift_markdown(spec, replace(verdict, shapes=shapes_of(reference, profile, verdict)))
    assert "### the model's score\n" in text
    assert "__score__" not in text.replace("\\", "")


def test_a_window_too_small_to_judge_says_so_and_shows_no_table() -> None:
    spec, frame = make_spec(), make_frame(3000)
    reference = build_reference(frame, spec)
    text = drift_markdown(spec, judge(reference, profile_frame(frame[:3], reference), spec))
    assert "3 rows in the window; at least" in text
    assert "| feature |" not in text


@pytest.mark.parametrize("target", [None, "", "javascript:alert(1)", "/a b", "//evil)(x", "data:text/html,x"])
def test_a_link_leads_only_to_a_page(target: str | None) -> None:
    assert "](" not in link("this", target) or (target == "//evil)(x" and "](" not in link("this", target))


def test_only_what_is_ready_may_hold_markup() -> None:
    row = table(("a",), [(HOSTILE,), (Ready("`x`"),)])
    assert "<img" not in row[2].replace("\\<", "")
    assert row[2].count("|") - row[2].count("\\|") == 2
    assert row[3] == "| `x` |"


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
