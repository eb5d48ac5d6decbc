"""Features over time: each value at its height, and nothing joined across what is not known."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tasks.core.records.drift_chart import HEIGHT, MOST, WIDTH, trends
from tasks.core.records.drift_rows import FeatureCheck, FeatureRow, feature_rows
from tests.drifted import HOSTILE, checked, day, many


def row(feature: str = "spend", value: float | None = 0.1, outcome: str = "ok") -> FeatureRow:
    return FeatureRow(feature, outcome, "psi", value, 0.2, 0.5, 1500, "small")


def history(*values: float | None, version: int = 3) -> list[FeatureCheck]:
    return [FeatureCheck(day(place), version, row(value=value)) for place, value in enumerate(values)]


def test_a_value_at_its_limit_stands_on_the_line_and_twice_the_value_twice_as_high() -> None:
    trend = trends(history(0.0, 0.2, 0.4), ["spend"])[0]
    floor, limit, twice = (point.y for point in trend.points)
    assert (floor, limit) == (trend.floor_y, trend.limit_y)
    assert floor - twice == pytest.approx(2 * (floor - limit))


def test_what_is_far_out_stands_at_the_edge_and_is_told_in_full() -> None:
    trend = trends(history(0.1, 40.0), ["spend"])[0]
    assert trend.top == "6×"
    assert all(0 < point.y < HEIGHT and 0 < point.x < WIDTH for point in trend.points)
    assert "psi 40, limit 0.2" in trend.points[1].title


def test_no_line_crosses_a_window_that_was_not_checked_or_not_judged() -> None:
    whole = history(*[0.1] * 9)
    assert len(trends(whole, ["spend"])[0].paths) == 1
    assert len(trends([*whole[:4], *whole[5:]], ["spend"])[0].paths) == 2
    unjudged = [*whole[:4], replace(whole[4], row=row(value=None, outcome="undecided")), *whole[5:]]
    trend = trends(unjudged, ["spend"])[0]
    assert len(trend.paths) == 2
    assert trend.points[4].outcome == "undecided"
    assert len(trend.points) == 9


def test_a_new_version_s_reference_is_marked_where_it_took_over() -> None:
    both = [*history(0.1, 0.1), FeatureCheck(day(2), 4, row())]
    trend = trends(both, ["spend"])[0]
    ((x, name),) = trend.changes
    assert name == "v4"
    assert trend.points[1].x < x < trend.points[2].x


def test_at_most_six_features_are_drawn_and_only_those_on_record() -> None:
    rows = [FeatureCheck(day(0), 1, row(f"f{place}")) for place in range(9)]
    assert [one.name for one in trends(rows, ["unknown", *(f"f{place}" for place in range(9))])] == [
        f"f{place}" for place in range(MOST)
    ]
    assert trends([], ["spend"]) == ()


def test_a_window_alone_has_a_point_and_no_line() -> None:
    trend = trends(history(0.1), ["spend"])[0]
    assert (len(trend.points), trend.paths, trend.points[0].now) == (1, (), True)
    assert not re.search("nan|inf", str(trend))


def test_a_row_on_record_is_the_loudest_measure_of_its_feature() -> None:
    rows = {one.feature: one for one in feature_rows(checked(1.0))}
    spend = next(f for f in checked(1.0).features if f.feature == "spend")
    found = rows["spend"]
    assert found.value is not None and found.threshold is not None
    ratios = [m.value / m.threshold for m in spend.measures if m.value is not None and m.outcome == "drift"]
    assert found.value / found.threshold == pytest.approx(max(ratios))
    assert found.p_value == min(m.p_value for m in spend.measures if m.p_value is not None)
    assert (found.outcome, found.n) == ("drift", 1500)


def test_a_row_on_record_fits_every_database() -> None:
    verdict = many(2)
    odd = replace(verdict.features[0], feature=f"a\x00\ud800{HOSTILE}", reason="x" * 999)
    first = feature_rows(replace(verdict, features=(odd, *verdict.features[1:])))[0]
    assert first.feature == f"a??{HOSTILE}"
    assert len(first.reason) == 300
    nan = tuple(replace(m, value=float("nan"), p_value=float("inf")) for m in odd.measures)
    unknown = feature_rows(replace(verdict, features=(replace(odd, measures=nan),)))[0]
    assert (unknown.value, unknown.p_value) == (None, None)
