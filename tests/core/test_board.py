"""What a board says of a model: its state, its numbers, its figures, its month in words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.core.board.facts import Asked, Board, Line, Move, apart
from tasks.core.board.figures import figures_of, score_figure
from tasks.core.board.fleet import fleet_of, spark_of
from tasks.core.board.month import month_window
from tasks.core.board.review import review_markdown, review_of
from tasks.core.board.rows import changes_of, incidents_of, records_of
from tasks.core.board.state import MISSING, state_of, tiles_of
from tasks.core.errors import SpecError
from tasks.core.evaluation.verdicts import SIMPLER, BaselineResult, simpler_words
from tasks.core.kpi.facts import Facts, Trouble
from tasks.core.kpi.measure import scorecard_of
from tasks.core.records.drift_rows import PastVerdict
from tasks.core.window import Window
from tests.make import make_spec

T0 = datetime(2026, 10, 5, tzinfo=UTC)
WEEK, DAY = timedelta(days=7), timedelta(days=1)


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


def line(kind: str, number: int, outcome: str = "ok", **summary: Any) -> Line:
    return Line(kind, week(number), 2, outcome, summary, summary.get("reason", ""))


def score(number: int, value: float, outcome: str = "ok") -> Line:
    return line(
        "performance", number, outcome,
        value=value, low=value - 0.02, high=value + 0.02, promise=0.8, limit=0.76, rows=500, metric="roc_auc",
    )  # fmt: skip


SERVICE = {
    "requests": 1000, "availability": 0.998, "errors_5xx": 2,
    "versions": [
        {"version": 1, "requests": 990, "p50_ms": 3.0, "p95_ms": 6.0, "p99_ms": 9.0},
        {"version": 2, "requests": 10, "p50_ms": 30.0, "p95_ms": 60.0, "p99_ms": 90.0},
    ],
}  # fmt: skip
MOVES = (
    Move("promoted", T0 - DAY, 1, None, "gate", "first", "d1", "first"),
    Move("promoted", T0 + 2 * WEEK + DAY, 2, 1, "gate", "better", "d2", "decay"),
    Move("waiting", T0 + 3 * WEEK, 3, 2, "retrain", "manual", "d3", "drift"),
)
BOARD = Board(
    "churn",
    T0 + 4 * WEEK,
    lines=(
        score(0, 0.81), score(1, 0.7, "drift"), score(2, 0.79), score(3, 0.8),
        line("service", 3, **SERVICE),
        line("labels", 3, predictions=100, coverage=0.9, delay_p50_s=86_400.0, delay_p95_s=172_800.0),
        line("budget", 3, share=0.25, budget=0.5, left=0.5, windows=4),
    ),
    drift=(PastVerdict(week(3), 1, "ok"),),
    moves=MOVES,
    troubles=(Trouble("decay", "warning", T0 + WEEK, T0 + 2 * WEEK, "performance beyond its band"),),
    metric="roc_auc",
)  # fmt: skip


def test_a_model_without_trouble_is_healthy_and_says_what_that_rests_on() -> None:
    state = state_of(BOARD)
    assert (state.word, state.level) == ("Healthy", "ok")
    assert state.why == "performance ok; service ok"


def test_silence_is_never_called_healthy() -> None:
    served = Board("churn", T0, moves=MOVES[:1])
    assert state_of(served).word == "Not known yet"
    undecided = replace(served, lines=(line("performance", 0, "undecided", reason="no labels yet"),))
    assert state_of(undecided).why == "no labels yet"
    assert state_of(Board("churn", T0)).word == "Nothing serves"


@pytest.mark.parametrize(
    ("kind", "outcome", "word"),
    [
        ("performance", "drift", "Below its promise"),
        ("performance", "warn", "Worth watching"),
        ("drift", "drift", "Inputs drifted"),
        ("service", "drift", "Service below its level"),
        ("budget", "drift", "Error budget spent"),
    ],
)
def test_the_newest_conclusion_that_is_bad_names_the_state(kind: str, outcome: str, word: str) -> None:
    assert state_of(replace(BOARD, lines=(*BOARD.lines, line(kind, 4, outcome)))).word == word


def test_a_critical_incident_outweighs_everything_and_one_that_ended_counts_no_more() -> None:
    lasting = Trouble("data", "critical", T0 + WEEK)
    assert state_of(replace(BOARD, troubles=(lasting,))).word == "Needs a person"
    ended = replace(lasting, resolved_at=T0 + 2 * WEEK)
    assert state_of(replace(BOARD, troubles=(ended,))).word == "Healthy"


def test_the_champions_tile_says_that_a_simpler_model_is_better() -> None:
    base = BaselineResult("linear", 0.83, -0.03, -0.05, -0.01, "worse")
    beaten = replace(MOVES[1], reason=f"ahead of the champion by 0.01; {simpler_words(base)}")
    tiles = [tiles_of(replace(BOARD, moves=moves))[0] for moves in (MOVES, (MOVES[0], beaten))]
    assert [tile.level for tile in tiles] == ["plain", "warn"]
    assert "simpler" not in tiles[0].more and SIMPLER in tiles[1].more
    assert any("linear scores 0.83" in change.why for change in changes_of(replace(BOARD, moves=(beaten,))))


def test_tiles_show_what_is_on_record_with_its_uncertainty() -> None:
    tiles = {one.title: one for one in tiles_of(BOARD)}
    assert tiles["Champion"].value == "version 2"
    assert (tiles["Realised roc_auc"].value, tiles["Realised roc_auc"].more) == (
        "0.8",
        "0.78 to 0.82, on 500 labels",
    )
    assert tiles["Promise"].value == "0.8"
    assert (tiles["Labels known"].value, tiles["Labels known"].more) == ("90%", "half of them within 1 d")
    assert tiles["Availability"].value == "99.8 %"
    assert tiles["Latency P99"].value == "9 ms"  # of the version that answered most
    assert tiles["Error budget left"].value == "50%"


def test_what_was_never_measured_says_so_in_its_tile() -> None:
    values = {one.title: one.value for one in tiles_of(Board("churn", T0, moves=MOVES[:1]))}
    assert {title for title, value in values.items() if value == MISSING} == {
        "Realised score", "Promise", "Labels known", "Availability", "Latency P99", "Error budget left",
    }  # fmt: skip
    assert values["Open incidents"] == "0"


def test_the_score_figure_holds_every_window_with_interval_promise_and_versions() -> None:
    figure = score_figure(BOARD)
    traces = {one.get("name"): one for one in figure["data"]}
    assert traces["realised"]["y"] == [0.81, 0.7, 0.79, 0.8]
    assert traces["promise"]["y"] == [0.8] * 4
    assert traces["interval"]["y"] == pytest.approx([0.79, 0.68, 0.77, 0.78])
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["v1", "v2"]
    assert traces["realised"]["customdata"][1] == BOARD.of("performance")[1].anchor
    assert traces["realised"]["marker"]["symbol"][1] != traces["realised"]["marker"]["symbol"][0]


def test_every_point_leads_to_a_row_of_the_records() -> None:
    rows = {one.anchor for one in records_of(BOARD)}
    assert len(rows) == len(BOARD.lines)
    figures = figures_of(BOARD)
    assert set(figures) == {"score", "service", "labels"}
    linked = {
        anchor for one in figures.values() for trace in one["data"] for anchor in trace.get("customdata", [])
    }
    assert linked <= rows
    assert linked
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_a_summary_with_holes_breaks_no_figure() -> None:
    odd = (
        line("performance", 0, "undecided", value=None, reason="no labels yet"),
        line("service", 0, requests=5, versions="none"),
        line("service", 1, requests=5, versions=[{"version": 1}]),
        line("labels", 0, coverage=None),
        line("labels", 1, coverage=0.5),
        line("slices", 1, "warn"),
    )
    board = replace(BOARD, lines=odd)
    figures = figures_of(board)
    assert set(figures) == {"service", "labels"}
    assert len(tiles_of(board)) == 8
    assert len(records_of(board)) == len(odd)


def test_hover_texts_hold_no_markup() -> None:
    hostile = replace(BOARD, metric="<img src=x onerror=alert(1)>")
    assert "<img" not in json.dumps(figures_of(hostile))


def test_the_fleet_shows_those_that_need_somebody_first() -> None:
    bad = replace(BOARD, model="zeta", lines=(score(0, 0.8), score(1, 0.5, "drift")))
    cards = fleet_of([BOARD, bad, Board("alpha", T0, moves=MOVES[:1]), replace(BOARD, model="<b>")])
    assert [one.model for one in cards] == ["zeta", "alpha", "<b>", "churn"]
    assert [one.page for one in cards] == [
        "../zeta/board.html",
        "../alpha/board.html",
        "",
        "../churn/board.html",
    ]


def test_a_small_drawing_stays_in_its_box_and_needs_two_points() -> None:
    assert spark_of(replace(BOARD, lines=(score(0, 0.8),))) is None
    for values in ([0.5, 0.5, 0.5], [1e-9, 1e9], [-3.0, 2.0, 0.1]):
        spark = spark_of(replace(BOARD, lines=tuple(score(n, value) for n, value in enumerate(values))))
        assert spark is not None
        points = [tuple(map(float, pair.split(","))) for pair in spark.path.split()]
        assert len(points) == len(values)
        assert all(0 <= x <= 240 and 0 <= y <= 44 for x, y in points)


def test_the_tables_tell_the_newest_first_and_leave_out_what_was_only_skipped() -> None:
    board = replace(BOARD, moves=(*MOVES, Move("skipped", T0, 2, None, "retrain", "nothing", "s")))
    assert [one.what for one in changes_of(board)] == [
        "version 3 waits for a person", "version 2 serves", "version 1 serves",
    ]  # fmt: skip
    (incident,) = incidents_of(board)
    assert (incident.lasted, incident.lasts) == ("7 d", False)


# The month in words


def reviewed(board: Board, month: str = "2026-10", *, asked: Asked | None = None, **spec: Any) -> str:
    span = month_window(month)
    card = scorecard_of(Facts("churn", span.start, min(span.end, board.as_of)))
    return review_markdown(review_of(board, card, make_spec(**spec), span, asked=asked))


def test_a_review_tells_the_month_against_the_promise() -> None:
    text = reviewed(replace(BOARD, as_of=T0 + 5 * WEEK))
    assert "# churn: review of October 2026\n" in text
    # Windows that ended in October: weeks 0, 1 and 2; the fourth ends in November.
    assert "kept its promise in 2 of 3 windows" in text
    assert "On average it scored 0.7667; promised was 0.8" in text
    assert (
        "version 2 began to serve, chosen automatically. It was trained because its score had fallen" in text
    )
    assert "the score fell below the promise; ended after 7 d" in text
    assert "no prices" in text
    assert "Approve or reject version 3" in text


def test_a_month_that_is_not_over_is_told_so_far_and_an_empty_one_says_so() -> None:
    assert "review of November 2026, so far" in reviewed(BOARD, "2026-11")
    empty = reviewed(Board("churn", T0 + 5 * WEEK))
    assert "Nothing could be judged this month." in empty
    assert "Incidents\n\nNone." in empty
    assert "Of people nothing is asked." in empty


def test_a_review_counts_requests_by_the_month_and_owes_no_answer_to_what_was_wrong() -> None:
    assert "Not measured" in reviewed(replace(BOARD, lines=(line("service", 0, **SERVICE),)))
    text = reviewed(BOARD, asked=Asked(10_000, refused=9_800, failed=20))
    assert "10,000 requests, of which 9,800 were wrong and refused." in text
    assert "Of the others 20 failed on our side (90 % answered; agreed are 99.5 %)." in text
    calm = reviewed(BOARD, asked=Asked(1_000, failed=1))
    assert "1,000 requests. Of the requests 1 failed on our side (99.9 % answered" in calm
    assert "5 failed on our side (agreed are" in reviewed(BOARD, asked=Asked(5, refused=5, failed=5))


def test_of_windows_that_overlap_a_review_tells_those_that_do_not() -> None:
    def daily(day: int, value: float, outcome: str = "ok") -> Line:
        span = Window(T0 + day * DAY, T0 + day * DAY + WEEK)
        return Line("performance", span, 1, outcome, {"value": value, "promise": 0.8})

    lines = tuple(daily(n, 0.6, "drift") if n < 4 else daily(n, 0.8) for n in range(15))
    assert [one.window.start for one in apart(lines)] == [T0 + n * DAY for n in (0, 7, 14)]
    mixed = (*lines, replace(lines[5], kind="drift"))
    assert mixed[-1] in apart(mixed), "each kind by itself"
    text = reviewed(replace(BOARD, lines=lines))
    assert "kept its promise in 2 of 3 windows" in text


def test_a_review_uses_no_word_that_a_stakeholder_would_not_know() -> None:
    told = reviewed(replace(BOARD, as_of=T0 + 5 * WEEK)).split("## Words")[0].lower()
    for word in ("challenger", "champion", "psi", "p-value", "gate promote", "undecided", "quantile"):
        assert not re.search(rf"\b{word}\b", told), word


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "11-2026", "", "2026-11-01", "../../x"])
def test_a_month_written_otherwise_is_refused(month: str) -> None:
    with pytest.raises(SpecError, match="YYYY-MM"):
        month_window(month)
