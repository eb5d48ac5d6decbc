"""How often undrifted checks alarm, and how soon drifted ones do: `python -m bench.false_alarms`.

One JSON line per figure. `rate` is the share of checks that said drift, `warned` those that did or warned,
`rejecting` those in which any test rejects, however little it matters, and `undecided` those that could not
tell: they are no ok. `acts` is the share of checks with which the loop would act, by counting two of three
windows and by adding up their strengths. Undrifted windows of the thirty mixed features are drawn as counts
(bench/population.py); every other window is profiled from rows. The domain classifier takes part where only
the correlation changes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from bench.draws import (
    CHANGES,
    clustered_frame,
    mixed_frame,
    reference_frame,
    series_frame,
    spec_for,
    spec_of,
    weekend_frame,
    window_frame,
)
from bench.population import Population
from tasks.core.drift.counting.sample import MOST_ROWS, pick, sample_codes
from tasks.core.drift.measures.base import Reading
from tasks.core.drift.past.calendar import choose
from tasks.core.drift.profile import Reference, build_reference, profile_frame
from tasks.core.drift.verdict import DriftVerdict, judge
from tasks.core.policy.accumulation import acts_on
from tasks.core.policy.evidence import CheckOutcome
from tasks.core.window import Window

SIZES = (50, 200, 1_000, 10_000, 100_000)
REFERENCE = 20_000
REDRAWN = 100  # checks after which another reference is drawn
START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def mixed(
    rows: int, checks: int, rng: np.random.Generator, *, reference: int = REFERENCE, people: int = 300_000
) -> Iterator[DriftVerdict]:
    """Yield verdicts on undrifted windows of the thirty mixed features, drawn from so many `people`."""
    spec, frame = spec_of(), mixed_frame(people, rng)
    for check in range(checks):
        if check % REDRAWN == 0:
            population = Population(frame, spec, reference, rng)
        yield judge(population.reference, population.window(rows), spec)


def series(
    kind: str, rows: int, checks: int, rng: np.random.Generator, *, days: int
) -> Iterator[DriftVerdict]:
    """Yield verdicts on undrifted days of rows that resemble each other, after `days` of reference."""
    per = 20
    for first in range(0, checks, per):
        windows = min(per, checks - first)
        frame = _days(kind, rows, days + windows, rng)
        stamps = pd.Series(pd.date_range(START, periods=days, freq="1D").repeat(rows))
        labels = [name for name in frame if frame[name].dtype == object]
        spec = spec_for([name for name in frame if name not in labels], labels)
        reference = build_reference(frame.iloc[: days * rows], spec, times=stamps)
        for day in range(days, days + windows):
            window = Window(START + day * DAY, START + (day + 1) * DAY)
            profile = profile_frame(frame.iloc[day * rows : (day + 1) * rows], reference)
            yield judge(reference, profile, spec, against=choose(reference, window, spec))


def _days(kind: str, rows: int, days: int, rng: np.random.Generator) -> pd.DataFrame:
    if kind == "autocorrelated":
        return series_frame(days * rows, rng)
    if kind == "weekend":
        return weekend_frame(range(days), rows, rng)
    return clustered_frame(days * rows // 40, 40, rng)


def false_alarms(case: str, rows: int, verdicts: Iterator[DriftVerdict]) -> dict[str, object]:
    """Return one figure: how often these undrifted checks alarmed."""
    found = Counter[str]()
    budget = 0.0
    windows: list[CheckOutcome] = []
    for verdict in verdicts:
        budget = verdict.false_alarms
        found["acts"] += _acts(windows, verdict)
        found[verdict.outcome] += 1
        found["rejecting"] += _rejects(verdict)
    checks = sum(found[outcome] for outcome in ("ok", "warn", "drift", "undecided"))
    return {
        "figure": "false_alarms",
        "case": case,
        "n": rows,
        "rate": found["drift"] / checks,
        "warned": (found["drift"] + found["warn"]) / checks,
        "rejecting": found["rejecting"] / checks,
        "undecided": found["undecided"] / checks,
        "acts": found["acts"] / checks,
        "budget": budget,
        "checks": checks,
    }


def power(rows: int, checks: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """Yield, per change, how many windows of it are caught, and how many windows pass until one is."""
    spec = spec_of()
    references = [build_reference(reference_frame(REFERENCE, rng), spec) for _ in range(4)]
    for change in CHANGES:
        caught, named, loud, found, silent, acts = 0, 0, 0, 0, 0, 0
        windows: list[CheckOutcome] = []
        for check in range(checks):
            reference = references[check % len(references)]
            frame = window_frame(rows, rng, change=change)
            joint = _joint(reference, frame) if change == "correlation only" else None
            verdict = judge(reference, profile_frame(frame, reference), spec, joint=joint)
            caught += verdict.outcome == "drift"
            loud += verdict.outcome in {"drift", "warn"}
            named += len(verdict.drifted) == 1
            found += _rejects(verdict)
            silent += verdict.outcome == "undecided"
            if check % 3 == 0:
                windows.clear()
            acts += _acts(windows, verdict) and check % 3 == 2
        share = caught / checks
        yield {
            "figure": "power",
            "change": change,
            "n": rows,
            "rate": share,
            "warned": loud / checks,
            "rejecting": found / checks,
            "undecided": silent / checks,
            "acts_by_third_window": acts / max(checks // 3, 1),
            "named_alone": named / checks,
            "windows_until_caught": round(1 / share, 2) if share else None,
            "checks": checks,
        }


def _acts(windows: list[CheckOutcome], verdict: DriftVerdict) -> bool:
    """Add the verdict to the windows before it, and return whether the loop would act on them now."""
    window = Window(START + len(windows) * DAY, START + (len(windows) + 1) * DAY)
    windows.append(CheckOutcome(window, verdict.outcome, strength=verdict.strength))
    return acts_on(windows, (2, 3), verdict.false_alarms)


def _rejects(verdict: DriftVerdict) -> bool:
    """Return whether any test rejects, however small the difference."""
    tests = [m for feature in verdict.features for m in feature.measures]
    return any(m.p_value is not None and m.alpha is not None and m.p_value <= m.alpha for m in tests)


def _joint(reference: Reference, frame: pd.DataFrame) -> Reading | None:
    from threadpoolctl import threadpool_limits

    from tasks.core.drift.past.calendar import CHAMPION, Against
    from tasks.core.drift.rows.joint import joint_reading

    against = Against(reference.profile, "champion", CHAMPION)
    sample = sample_codes(frame.iloc[pick(len(frame), MOST_ROWS, 0)], reference.bins)
    with threadpool_limits(1):
        return joint_reading(reference, against, sample, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=1_000, help="undrifted checks per case and size")
    parser.add_argument("--power", type=int, default=100, help="drifted checks per change and size")
    parser.add_argument("--only", choices=("mixed", "series", "power"), default=None)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    for rows in SIZES if given.only in {None, "mixed"} else ():
        print(json.dumps(false_alarms("mixed", rows, mixed(rows, given.checks, rng))), flush=True)
    if given.only in {None, "series"}:
        for case, rows, days in (
            ("autocorrelated", 200, 60),
            ("autocorrelated", 1_000, 60),
            ("autocorrelated", 1_000, 8),
            ("weekend", 200, 56),
            ("weekend", 1_000, 56),
            ("clustered", 2_000, 20),
        ):
            found = false_alarms(
                f"{case}, {days} days", rows, series(case, rows, given.checks, rng, days=days)
            )
            print(json.dumps(found), flush=True)
    for rows in (50, 200, 1_000, 10_000) if given.only in {None, "power"} else ():
        for figure in power(rows, given.power, rng):
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
