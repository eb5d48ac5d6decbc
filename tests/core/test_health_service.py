"""Availability, latency and the speed of the error budget's burn, held against independent sources."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from serving.traffic import edge_of
from tasks.core.health.burn import burns, lookbacks
from tasks.core.health.latency import (
    NOT_MEASURED,
    WIDTH,
    Latency,
    from_buckets,
    interpolated,
    ranks_needed,
)
from tasks.core.health.service import Counted, judge_service
from tasks.core.spec_serving import Slo

DAY = 86_400.0
MONTH = timedelta(days=30)
HOUR = timedelta(hours=1)


def verdict(counted: Counted, *, slo: Slo | None = None, together: Latency = NOT_MEASURED, **more):
    return judge_service({1: counted}, {}, slo or Slo(), together=together, seconds=DAY, **more)


# Latency.


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=400))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    ordered = sorted(values)
    ranks = {rank: ordered[rank - 1] for rank in ranks_needed(len(values))}
    assert interpolated(ranks, len(values)) == pytest.approx(np.percentile(values, [50, 95, 99]).tolist())


def test_percentiles_of_the_apps_buckets_are_never_too_small_and_a_bucket_too_large_at_most() -> None:
    took = np.random.default_rng(1).lognormal(1.5, 0.8, 20_000)
    found = from_buckets(Counter(edge_of(value) for value in took), 20.0)
    for percent, value in [(50, found.p50_ms), (95, found.p95_ms), (99, found.p99_ms)]:
        assert value is not None
        assert 0.999 <= value / np.percentile(took, percent, method="higher") <= WIDTH
    assert (took > 20 * WIDTH).sum() <= found.slow <= (took > 20).sum()
    assert (found.requests, found.exact) == (20_000, False)


@pytest.mark.parametrize("limit", [0.07, 1.0, 9.99, 20.0, 50.0, 333.0])
def test_what_is_quick_enough_is_never_called_slow(limit: float) -> None:
    assert from_buckets({edge_of(limit): 100}, limit).slow == 0
    assert from_buckets({edge_of(limit * 1.5): 100}, limit).slow == 100


def test_of_the_open_bucket_only_what_is_below_it_is_known() -> None:
    assert from_buckets({"10": 1, "inf": 99}).p99_ms == 10.0
    assert from_buckets({"10": 1, "inf": 99}, 5.0).slow == 99 + 1
    assert from_buckets({"10": 0}) == NOT_MEASURED
    assert from_buckets({"nonsense": 5, "nan": 3}) == NOT_MEASURED


# Availability.


def test_what_was_promised_is_held_against_requests_that_were_well_formed() -> None:
    found = verdict(Counted(requests=11_000, rows=10_000, errors_4xx=1_000, errors_5xx=20))
    assert found.outcome == "ok"
    assert found.availability.value == 9_980 / 10_000
    exact = binomtest(9_980, 10_000).proportion_ci(0.95, "exact")
    assert (found.availability.low, found.availability.high) == pytest.approx((exact.low, exact.high))
    assert verdict(Counted(requests=50_000, errors_4xx=40_000)).availability.value == 1.0


@pytest.mark.parametrize(
    ("failed", "outcome"), [(0, "ok"), (50, "ok"), (55, "warn"), (200, "drift"), (10_000, "drift")]
)
def test_too_few_answers_alarm_beyond_chance_only(failed: int, outcome: str) -> None:
    assert verdict(Counted(requests=10_000, errors_5xx=failed)).outcome == outcome


def test_few_requests_and_none_are_undecided() -> None:
    assert verdict(Counted(requests=99, errors_5xx=99)).outcome == "undecided"
    empty = verdict(Counted())
    assert (empty.outcome, empty.reason) == ("undecided", "no requests were counted")
    assert empty.summary()["availability"] is None


def test_a_service_as_good_as_promised_is_called_worse_in_no_more_windows_than_the_interval_allows() -> None:
    rng = np.random.default_rng(5)
    failed = rng.binomial(5_000, 0.005, 4_000)
    outcomes = [verdict(Counted(requests=5_000, errors_5xx=int(n))).outcome for n in failed]
    assert outcomes.count("drift") / len(outcomes) <= 0.03
    worse = rng.binomial(5_000, 0.012, 200)
    caught = [verdict(Counted(requests=5_000, errors_5xx=int(n))).outcome == "drift" for n in worse]
    assert np.mean(caught) > 0.95


def test_answers_that_are_too_slow_beyond_chance_alarm_and_lost_rows_are_told() -> None:
    slo = Slo(p99_ms=50)
    fine = Counted(requests=10_000, rows=10_000)
    slow = verdict(fine, slo=slo, together=Latency(10_000, 5, 20, 80, slow=300))
    assert slow.outcome == "drift"
    assert "P99 80 ms, 50 ms are promised" in slow.reason
    assert verdict(fine, slo=slo, together=Latency(10_000, 5, 20, 51, slow=105)).outcome == "warn"
    assert verdict(fine, slo=slo, together=Latency(10_000, 5, 20, 40, slow=10)).outcome == "ok"
    assert verdict(fine, together=Latency(10_000, 5, 20, 9_000)).outcome == "ok", "not held to any latency"
    lost = verdict(Counted(requests=10_000, rows=10_000, lost=3))
    assert (lost.outcome, "3 answered rows were not kept" in lost.reason) == ("warn", True)


def test_the_summary_says_of_each_version_what_it_did() -> None:
    counted = {0: Counted(5, 0, 0, 5), 1: Counted(100, 300), 2: Counted(50, 50, 2, 1)}
    found = judge_service(counted, {2: Latency(50, 1.0, 2.0, 3.0)}, Slo(), seconds=100.0)
    summary = found.summary()
    assert [one["version"] for one in summary["versions"]] == [0, 1, 2]
    assert (summary["requests"], summary["rows"]) == (155, 350)
    assert (summary["errors_4xx"], summary["errors_5xx"]) == (2, 6)
    assert summary["versions"][2]["p99_ms"] == 3.0
    assert summary["versions"][1]["p99_ms"] is None
    assert summary["versions"][1]["per_second"] == 1.0


# Burn.


def counts(failing: float, *, of: int = 1_000, recent: float | None = None, period: timedelta = MONTH):
    """Return so many requests an hour, a share of which fails; in the last five minutes another share."""
    found = {}
    for span in lookbacks(period):
        requests = max(1, int(of * (span / HOUR)))
        share = failing if recent is None or span > timedelta(minutes=40) else recent
        found[span] = (requests, int(requests * share))
    return found


def fired(given, **over) -> list[str]:
    ask = {"availability": 0.995, "period": MONTH, "min_requests": 100, **over}
    return [burn.tier for burn in burns(given, **ask) if burn.fires]


def test_the_windows_are_those_of_the_workbook_for_thirty_days() -> None:
    hours = [span / HOUR for span in lookbacks(MONTH)]
    assert hours == pytest.approx([720, 72, 6, 1, 0.5, 5 / 60])
    shorter = [span / HOUR for span in lookbacks(timedelta(days=15))]
    assert shorter == pytest.approx([360, 36, 3, 0.5, 0.25, 5 / 60])


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        (0.004, []),
        (0.006, ["warning"]),
        (0.02, ["warning"]),
        (0.031, ["critical", "warning"]),
        (0.08, ["critical", "critical", "warning"]),
    ],
)
def test_each_rule_fires_at_its_own_speed(failing: float, expected: list[str]) -> None:
    assert fired(counts(failing, of=100_000)) == expected


def test_an_outage_that_is_over_pages_nobody_and_neither_does_one_failure_of_few() -> None:
    assert "critical" not in fired(counts(0.08, recent=0.0, of=100_000))
    assert fired(counts(0.5, of=1)) == []


def test_a_firing_rule_makes_the_window_drift_and_names_the_tier() -> None:
    rules = burns(counts(0.08), availability=0.995, period=MONTH, min_requests=100)
    found = judge_service({1: Counted(10_000)}, {}, Slo(), burns=rules, seconds=DAY)
    assert found.outcome == "drift"
    assert found.firing is not None
    assert found.firing.tier == "critical"
    assert "16 times too fast over the last 1 hours" in found.reason


def test_a_quiet_service_is_fine_again_when_its_longer_windows_lose_nothing() -> None:
    def quiet(requests: int, failed: int, before: int, lost: int) -> str:
        spans = {
            span: (before, lost) if span >= 72 * HOUR else (requests, failed) for span in lookbacks(MONTH)
        }
        rules = burns(spans, availability=0.995, period=MONTH, min_requests=100)
        return judge_service(
            {1: Counted(requests, 0, 0, failed)}, {}, Slo(), burns=rules, seconds=DAY
        ).outcome

    assert quiet(60, 30, 180, 30) == "drift"
    assert quiet(60, 0, 180, 30) == "warn", "much was lost, nothing more is"
    assert quiet(60, 0, 180, 0) == "ok"
    assert quiet(60, 0, 90, 0) == "undecided", "too few to tell anywhere"
    assert quiet(0, 0, 180, 0) == "undecided", "who answers nothing is not well"
