"""Drift verdicts of a churn model whose customers change, as a check would give them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd

from tasks.core.drift.matters.harm import Harm, Impact
from tasks.core.drift.profile import Reference, build_reference, profile_frame
from tasks.core.drift.results import Comparison, DriftVerdict, FeatureVerdict, MeasureResult
from tasks.core.drift.shape import shapes_of
from tasks.core.drift.verdict import judge
from tasks.core.records.drift_rows import PastVerdict
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tests.make import make_spec

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
HOSTILE = "<script>alert(1)</script>"
KEY = b"a key of sixteen"
NUMERIC = ["tenure", "spend", "calls", "age", "data_used", "last_login", "credit"]
CATEGORICAL = ["plan", "region", "payment", "channel", "browser"]


def day(place: int) -> Window:
    """Return the window of this day, counted from the first."""
    return Window(START + place * DAY, START + (place + 1) * DAY)


def past(*outcomes: str, version: int = 3) -> list[PastVerdict]:
    """Return verdicts of consecutive days, of which the last ends where `day(len(outcomes))` begins."""
    return [PastVerdict(day(place), version, outcome) for place, outcome in enumerate(outcomes)]


def drifted_spec() -> ModelSpec:
    """Return a spec of twelve features, two of them sensitive."""
    features = {"numeric": NUMERIC, "categorical": CATEGORICAL, "sensitive": ["age", "region"]}
    return make_spec(features=features, contract={}, window={"training": "90d", "check": "1d"})


def customers(rows: int, *, seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Return customers; with `shift` from 0 to 1 they spend and call more, lose credit scores, pay oddly."""
    rng, odd = np.random.default_rng(seed), 0.4 * shift
    frame = pd.DataFrame(
        {
            "tenure": rng.gamma(2, 12, rows),
            "spend": rng.lognormal(3, 0.6, rows) * (1 + 0.9 * shift),
            "calls": rng.poisson(1.2 + 2 * shift, rows).astype(float),
            "age": rng.normal(44, 12, rows) + 9 * shift,
            "data_used": np.where(rng.random(rows) < 0.3, 0, rng.gamma(2, 4, rows)),
            "last_login": rng.exponential(5, rows),
            "credit": rng.normal(650, 80, rows),
            "plan": rng.choice(["basic", "pro", "team"], rows, p=[0.5 - 0.3 * shift, 0.3 + 0.3 * shift, 0.2]),
            "region": rng.choice(["north", "south", "east", "west"], rows),
            "payment": rng.choice(["card", "wire", HOSTILE], rows, p=[0.6 - odd, 0.3, 0.1 + odd]),
            "channel": rng.choice(["web", "app", "shop"], rows),
            "browser": rng.choice([f"browser {place}" for place in range(9)], rows),
        }
    )  # fmt: skip
    frame.loc[rng.random(rows) < 0.02 + 0.2 * shift, "credit"] = np.nan
    return frame


@cache
def reference() -> Reference:
    """Return the champion's reference, scores among it."""
    scores = np.random.default_rng(1).beta(2, 5, 2000)
    return build_reference(customers(8000, seed=0), drifted_spec(), scores=scores, key=KEY, deep=False)


@cache
def checked(shift: float, *, rows: int = 1500, seed: int = 7) -> DriftVerdict:
    """Return our own verdict on so many customers, with what moved drawn."""
    scores = np.random.default_rng(seed).beta(2 + 2 * shift, 5, rows)
    frame = customers(rows, seed=seed, shift=shift)
    profile = profile_frame(frame, reference(), scores=scores, key=KEY)
    verdict = judge(reference(), profile, drifted_spec())
    return replace(verdict, shapes=shapes_of(reference(), profile, verdict))


def told(shift: float, **over: object) -> DriftVerdict:
    """Return the verdict with everything a full check adds to it: limits, harm, impacts, a second opinion."""
    verdict = checked(shift)
    weights = {"spend": 0.31, "plan": 0.22, "calls": 0.1}
    harm = Harm("harmful", "roc_auc", 0.712, 0.688, 0.738, 0.801, "a loss of more than the 0.01 tolerated")
    moved = [f for f in verdict.features if f.outcome in {"drift", "warn"} and not f.feature.startswith("__")]
    impacts = tuple(
        Impact(f.feature, w, 0.4, None if w is None else 0.4 * w, f.outcome, 0.02)
        for f in moved
        for w in [weights.get(f.feature)]
    )
    full = {
        "level": 0.0042,
        "needed": 1840,
        "calibration": "Learnt from 90 days of the champion's reference.",
        "harm": harm,
        "impacts": impacts,
        "compared": (Comparison("spend", "ks", 1e-9, 2e-9, True), Comparison("age", "ks", 0.004, 0.2, False)),
        "features": tuple(replace(f, needed=1840) for f in verdict.features),
    }
    return replace(verdict, **{**full, **over})  # type: ignore[arg-type]  # fields by name


def many(features: int, *, drifted: int = 60) -> DriftVerdict:
    """Return a verdict on very many features, the first of which drifted."""
    judged = tuple(_feature(place, out=place < drifted) for place in range(features))
    names = tuple(f.feature for f in judged[:drifted])
    return DriftVerdict("drift", "many moved", judged, names, False, 5000, 0.01, 20_000)


def _feature(place: int, *, out: bool) -> FeatureVerdict:
    name, outcome = f"sensor_{place:05}", "drift" if out else "ok"
    measures = tuple(
        MeasureResult(
            measure, name, (2.0 if out else 0.01) - place * 1e-6, "higher", 0.2, 1e-4 if out else 0.4, 1e-3,
            12.3, 20_000, 5000, outcome, f"{measure} is at least 0.2",
        )
        for measure in ("psi", "jensen_shannon", "wasserstein", "ks", "missing_share", "invalid_share")
    )  # fmt: skip
    return FeatureVerdict(name, outcome, "psi 2 is at least 0.2", measures)
