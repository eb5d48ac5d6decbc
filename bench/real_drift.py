"""Real data: the New South Wales electricity market, 1996 to 1998, checked week by week and day by day.

On 1997-05-05 the figures of Victoria (vicprice, vicdemand, transfer), constant until then, begin to move:
the check of the first full window has to name them. The year's seasons, which move demand as much, should
not keep the alarm on. References are the 90 days before, made anew every 13 weeks as a champion's would be,
or once and for all. Prints one JSON line per figure.

    python bench/real_drift.py [--data elec2.parquet] [--windows 7d 1d]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from tasks.core.drift.past.calendar import choose
from tasks.core.drift.profile import Profile, Reference, build_reference, profile_frame
from tasks.core.drift.verdict import DriftVerdict, judge
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.window import Window, parse_duration

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "elec2.parquet"
FEATURES = ["nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
VICTORIA = {"vicprice", "vicdemand", "transfer"}
BREAK = datetime(1997, 5, 5, tzinfo=UTC)
BEGIN = datetime(1996, 8, 5, tzinfo=UTC)  # a Monday, 90 days after the first row
TRAINING = timedelta(days=90)
QUARTER = timedelta(weeks=13)
SEASONS = {12: "summer", 1: "summer", 2: "summer", 3: "autumn", 4: "autumn", 5: "autumn"}
SEASONS |= {6: "winter", 7: "winter", 8: "winter", 9: "spring", 10: "spring", 11: "spring"}


@dataclass(frozen=True)
class Check:
    """One window and what was found in it."""

    window: Window
    verdict: DriftVerdict
    against: str
    reference_end: datetime

    @property
    def alarm(self) -> bool:
        return self.verdict.outcome == "drift"


def read(path: Path) -> pd.DataFrame:
    """Return the rows, one per half hour, in the order of time."""
    return pd.read_parquet(path).sort_values("settled_at", ignore_index=True)


def spec_of(check: str, *, reference: str = "auto") -> ModelSpec:
    """Return the model whose windows are checked."""
    return parse_spec(
        {
            "name": "elec2",
            "task": "classification",
            "source": {
                "url": "sqlite:///elec2.db",
                "table": "elec2",
                "key": "event_id",
                "timestamp": "settled_at",
            },
            "label": {"column": "price_up", "maturity": "1d"},
            "features": {"numeric": FEATURES, "categorical": []},
            "estimator": {"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {}},
            "window": {"training": "90d", "check": check},
            "metric": "roc_auc",
            "drift": {"reference": reference, "min_rows": 40, "multivariate": False},
        }
    )


def play(
    rows: pd.DataFrame,
    spec: ModelSpec,
    *,
    refresh: timedelta | None,
    begin: datetime = BEGIN,
    end: datetime | None = None,
) -> Iterator[Check]:
    """Yield every window's check, oldest first; `refresh` None keeps the first reference for ever."""
    times = rows["settled_at"]
    last = end or times.iloc[-1].to_pydatetime() + timedelta(minutes=30)
    reference, made = reference_of(rows, spec, begin), begin
    earlier: list[Profile] = []
    for window in Window(begin, last).split(parse_duration(spec.window.check)):
        if refresh and window.start - made >= refresh:
            made += refresh
            reference = reference_of(rows, spec, made)
        profile = profile_frame(rows[_inside(times, window)], reference)
        against = choose(reference, window, spec, earlier=earlier)
        verdict = judge(reference, profile, spec, against=against)
        earlier = [*earlier, profile][-spec.drift.rolling :]
        yield Check(window, verdict, against.kind, made)


def reference_of(rows: pd.DataFrame, spec: ModelSpec, end: datetime) -> Reference:
    """Return the reference made from the 90 days before `end`."""
    times = rows["settled_at"]
    part = rows[_inside(times, Window(end - TRAINING, end))]
    return build_reference(part, spec, times=part["settled_at"])


def figures(checks: Sequence[Check]) -> Iterator[dict[str, object]]:
    """Yield what is told of a play: the break, and the alarms by season."""
    first = next(check for check in checks if check.window.start >= BREAK)
    yield {
        "figure": "break of 1997-05-05",
        "window": str(first.window),
        "caught": first.alarm and set(first.verdict.drifted) >= VICTORIA,
        "named": list(first.verdict.drifted),
        "false alarms of these three before": sum(
            bool(VICTORIA & set(c.verdict.drifted)) for c in checks if c.window.start < BREAK
        ),
    }
    # Until the reference is next made anew, every window differs from what was before the break, and rightly.
    calm = [c for c in checks if not BREAK <= c.window.start < BREAK + QUARTER]
    yield {
        "figure": "share of windows that alarm, the quarter after the break aside",
        **_by_season(calm, lambda check: check.alarm),
        "all": _share([c.alarm for c in calm]),
        "before the break": _share([c.alarm for c in calm if c.window.start < BREAK]),
        "longest run": longest([c.alarm for c in calm]),
        "windows": len(calm),
    }
    yield {
        "figure": "share of windows that name nswdemand, which the seasons move most",
        **_by_season(checks, lambda check: "nswdemand" in check.verdict.drifted),
        "longest run": longest(["nswdemand" in c.verdict.drifted for c in checks]),
    }
    yield {
        "figure": "outcomes",
        **Counter(c.verdict.outcome for c in checks),
        "named": dict(Counter(name for c in checks for name in c.verdict.drifted).most_common()),
        "against": dict(Counter(c.against for c in checks)),
    }


def longest(alarms: Sequence[bool]) -> int:
    """Return the most alarms in a row."""
    best = run = 0
    for alarm in alarms:
        run = run + 1 if alarm else 0
        best = max(best, run)
    return best


def _by_season(checks: Sequence[Check], alarms: Callable[[Check], bool]) -> dict[str, float | None]:
    found: dict[str, list[bool]] = {season: [] for season in ("spring", "summer", "autumn", "winter")}
    for check in checks:
        found[SEASONS[check.window.start.month]].append(alarms(check))
    return {season: _share(of) for season, of in found.items()}


def _share(alarms: Sequence[bool]) -> float | None:
    return round(sum(alarms) / len(alarms), 3) if alarms else None


def _inside(times: pd.Series, window: Window) -> pd.Series:
    return (times >= pd.Timestamp(window.start)) & (times < pd.Timestamp(window.end))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="elec2.parquet (default: %(default)s)")
    parser.add_argument("--windows", nargs="+", default=["7d", "1d"], help="lengths of the checks")
    options = parser.parse_args()
    if not options.data.exists():
        print(json.dumps({"figure": "real drift", "skipped": f"no {options.data.name} there"}))
        sys.exit(0)
    rows = read(options.data)
    for check in options.windows:
        for mode in ("auto", "champion", "rolling"):
            for refresh in (QUARTER, None):
                began = time.perf_counter()
                checks = list(play(rows, spec_of(check, reference=mode), refresh=refresh))
                setting = {"check": check, "reference": mode, "refreshed every 13 weeks": refresh is not None}
                for figure in figures(checks):
                    print(json.dumps({**setting, **figure}), flush=True)
                print(
                    json.dumps(
                        {**setting, "figure": "seconds", "value": round(time.perf_counter() - began, 1)}
                    )
                )


if __name__ == "__main__":
    main()
