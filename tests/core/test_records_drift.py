"""What the run page says of a drift check, in words, tables and drawings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.core.drift.matters.harm import Harm
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.shape import shapes_of
from tasks.core.drift.verdict import judge
from tasks.core.records.drift import drift_markdown
from tests.drifted import HOSTILE, day, drifted_spec, many, told
from tests.make import make_frame, make_spec

SPEC = drifted_spec()


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
    scores = np.random.default_rng(0).random(3000)
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


def test_the_first_sentence_is_plain_and_the_first_table_has_the_ten_worst() -> None:
    text = drift_markdown(SPEC, told(1.0), day(5))
    lines = text.splitlines()
    assert lines[0] == "## churn: drift"
    assert lines[2].startswith("1,500 rows of Sat 10 Jan 2026 were compared with 8,000 rows: the champion's")
    table = text.split("\n\n")[2].splitlines()
    assert len(table) == 2 + 10
    assert table[0].endswith("| importance | impact |")
    assert table[2].split(" | ")[5] == "1,500"
    assert "and 3 more, none of them further out" in text


def test_level_needed_rows_calibration_and_the_limit_of_the_estimate_are_told() -> None:
    text = drift_markdown(SPEC, told(1.0), day(5))
    assert "1,840 would do for every feature" in text
    assert "budgeted at 0.01 per check, reached at a level of 0.0042" in text
    assert "- Learnt from 90 days of the champion's reference." in text
    assert "concept drift" in text
    folded = text.split("<details>")[-1]
    assert "| level | rows | dispersion | rows needed |" in folded


def test_a_second_opinion_that_differs_stands_out() -> None:
    text = drift_markdown(SPEC, told(1.0), day(5))
    assert "Beside alibi-detect" in text
    assert "| age | ks | 0.004 | 0.2 | **no** |" in text
    assert "Beside alibi-detect" not in drift_markdown(SPEC, told(1.0, compared=()), day(5))


@pytest.mark.parametrize(
    ("report", "shown"),
    [
        (
            "s3://bucket/reports/churn/drift/x.html",
            "The whole report: `s3://bucket/reports/churn/drift/x.html`",
        ),
        ("/home/ann/reports/x.html", "The whole report: `/home/ann/reports/x.html`"),
        ("https://pages.example.org/x.html", "[The whole report](https://pages.example.org/x.html)"),
    ],
)
def test_the_whole_report_is_linked_where_a_browser_can_follow(report: str, shown: str) -> None:
    assert f"\n{shown}\n" in drift_markdown(SPEC, told(1.0), day(5), report=report)
    assert "whole report" not in drift_markdown(SPEC, told(1.0), day(5))


def test_no_name_reason_or_limit_becomes_markup() -> None:
    verdict = told(1.0)
    odd = tuple(replace(f, feature=HOSTILE, reason=HOSTILE) for f in verdict.features[:2])
    harm = Harm("unknown", HOSTILE, None, None, None, None, HOSTILE, HOSTILE)
    hostile = replace(verdict, features=odd, harm=harm, calibration=HOSTILE, against=HOSTILE, reason=HOSTILE)
    text = drift_markdown(SPEC, hostile, day(5))
    assert "<script" not in text.replace("\\<", "")


def test_ten_thousand_features_make_an_artifact_that_still_opens() -> None:
    text = drift_markdown(SPEC, many(10_000), day(5))
    assert len(text) < 100_000
    assert "and 9,990 more, none of them further out" in text
    assert "of the 50 worst features; 9,950 more are in the store" in text
