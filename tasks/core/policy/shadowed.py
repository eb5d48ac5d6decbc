"""What a challenger would have answered beside the answers that were given: how alike, fast and right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.metrics import needs_probabilities
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec import ModelSpec

Floats = NDArray[np.float64]
Classes = tuple[Any, ...] | None  # Any: labels may be text, whole numbers or booleans
_UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class ShadowReport:
    """The shadow in numbers; NaN where one cannot be told.

    `rows` were scored in the shadow, `errors` of them without an answer and `refused` by the challenger's own
    contract. `agreement` is the share of rows with the same prediction. `mean_gap` is the mean distance of
    the answers: of numbers the absolute difference, of probabilities half the sum over classes (total
    variation, 0..1); `mean_difference` is signed, challenger less champion, of the number or of the
    probability of the second of two classes. The challenger's latency is that of scoring the batch a row was
    in, the champion's that of a whole request. Scores and `difference`, on the `labelled` rows, are as a
    scorer gives them, with a paired interval.
    """

    rows: int
    errors: int = 0
    refused: int = 0
    agreement: float = math.nan
    mean_difference: float = math.nan
    mean_gap: float = math.nan
    p50_ms: float = math.nan
    p95_ms: float = math.nan
    p99_ms: float = math.nan
    champion_p50_ms: float = math.nan
    champion_p99_ms: float = math.nan
    labelled: int = 0
    score: float = math.nan
    champion_score: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    metric: str = ""

    def summary(self) -> dict[str, object]:
        """Return the report as JSON values: None where a number is not known."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    def sentence(self) -> str:
        """Return the report as one line."""
        if not self.rows:
            return "no shadow answers yet"
        said = f"{self.rows:,} shadow answers, {self.agreement:.1%} the same as the champion's"
        if self.errors:
            said += f", {self.errors:,} errors"
        if math.isfinite(self.p99_ms):
            said += f", P99 {self.p99_ms:.1f} ms"
        if math.isfinite(self.difference):
            said += (
                f"; {self.metric} {self.score:.4f} beside {self.champion_score:.4f} on {self.labelled:,} "
                f"labelled, difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
            )
        return said


def report_shadow(
    pairs: pd.DataFrame, spec: ModelSpec, *, classes: Classes, champion_classes: Classes
) -> ShadowReport:
    """Return what the shadow shows; no rows give a report of nothing.

    Args:
        pairs: one per row; columns prediction, score (probabilities in the order of the classes, or None),
            latency_ms, error (text where there is no answer), champion_prediction, champion_score,
            champion_latency_ms, and label (None where it is not known).
        spec: the model's spec.
        classes: the challenger's classes; None for a regressor.
        champion_classes: the champion's.
    """
    failed = pairs["error"].notna().to_numpy(dtype=bool) if len(pairs) else np.zeros(0, dtype=bool)
    good = pairs[~failed]
    refused = int((pairs.loc[failed, "error"] == "contract").sum())
    if good.empty:
        return ShadowReport(len(pairs), int(failed.sum()) - refused, refused, metric=spec.metric)
    mine = _answers(good, "", classes)
    theirs = _answers(good, "champion_", champion_classes)
    signed, gaps = _differences(mine, theirs)
    known = good["label"].notna().to_numpy(dtype=bool)
    score, champion_score, gap = _measured(mine, theirs, known, spec)
    latency, own = _numbers(good["champion_latency_ms"]), _numbers(good["latency_ms"])
    return ShadowReport(
        rows=len(pairs),
        errors=int(failed.sum()) - refused,
        refused=refused,
        agreement=float(np.mean(_same(mine, theirs))),
        mean_difference=float(signed.mean()),
        mean_gap=float(gaps.mean()),
        p50_ms=_quantile(own, 50),
        p95_ms=_quantile(own, 95),
        p99_ms=_quantile(own, 99),
        champion_p50_ms=_quantile(latency, 50),
        champion_p99_ms=_quantile(latency, 99),
        labelled=int(known.sum()),
        score=score,
        champion_score=champion_score,
        difference=gap.value,
        low=gap.low,
        high=gap.high,
        metric=spec.metric,
    )


def in_terms_of(classes: Classes, values: Sequence[Any]) -> NDArray[Any]:
    """Return labels as the model writes them: a store may give back "1" for the class 1; None stays None."""
    known = {**{str(one): one for one in classes or ()}, **{one: one for one in classes or ()}}
    found = [None if one is None else known.get(one, known.get(str(one), one)) for one in values]
    return np.fromiter(found, dtype=object, count=len(found))


def probabilities(scores: Sequence[Any], classes: Classes) -> Floats | None:
    """Return rows by classes, NaN in a row that has not one number per class; None without classes."""
    if not classes:
        return None
    gap = [math.nan] * len(classes)
    rows = [one if isinstance(one, list) and len(one) == len(classes) else gap for one in scores]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(classes))


def _answers(good: pd.DataFrame, prefix: str, classes: Classes) -> Scored:
    prediction, labels = good[f"{prefix}prediction"].tolist(), good["label"].tolist()
    if classes is None:
        return Scored(_numbers(labels), _numbers(prediction))
    table = probabilities(good[f"{prefix}score"].tolist(), classes)
    known = [None if pd.isna(one) else one for one in labels]
    return Scored(in_terms_of(classes, known), in_terms_of(classes, prediction), table, classes)


def _same(mine: Scored, theirs: Scored) -> NDArray[np.bool_]:
    if mine.classes is None:
        return np.isclose(
            mine.prediction.astype(float), theirs.prediction.astype(float), rtol=1e-6, atol=1e-9
        )
    return np.array([a == b for a, b in zip(mine.prediction, theirs.prediction, strict=True)], dtype=bool)


def _differences(mine: Scored, theirs: Scored) -> tuple[Floats, Floats]:
    """Return the signed difference and the distance of every pair of answers."""
    nothing = np.full(len(mine.prediction), math.nan)
    if mine.classes is None:
        signed = mine.prediction - theirs.prediction
        return signed, np.abs(signed)
    if mine.probabilities is None or theirs.probabilities is None or mine.classes != theirs.classes:
        return nothing, nothing
    apart = mine.probabilities - theirs.probabilities
    return apart[:, 1] if len(mine.classes) == 2 else nothing, np.abs(apart).sum(axis=1) / 2


def _measured(
    mine: Scored, theirs: Scored, known: NDArray[np.bool_], spec: ModelSpec
) -> tuple[float, float, Interval]:
    """Return both scores and the paired difference on the rows whose label is known."""
    if known.sum() < 2 or (needs_probabilities(spec.metric) and mine.probabilities is None):
        return math.nan, math.nan, _UNKNOWN
    ours, others = _only(mine, known), _only(theirs, known)
    named = spec.label.positive
    positive = None if named is None else in_terms_of(mine.classes, [named])[0]
    try:
        found = compare(
            ours,
            others,
            spec.metric,
            confidence=spec.gate.confidence,
            seed=spec.estimator.seed,
            positive=positive,
        )
    except ValueError:  # the metric has no meaning for these classes
        return math.nan, math.nan, _UNKNOWN
    return found.mine.value, found.theirs.value, found.difference


def _only(scored: Scored, rows: NDArray[np.bool_]) -> Scored:
    table = None if scored.probabilities is None else scored.probabilities[rows]
    return Scored(scored.y_true[rows], scored.prediction[rows], table, scored.classes)


def _numbers(values: Any) -> Floats:  # Any: a column or a list of whatever a store gave back
    return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)


def _quantile(values: Floats, share: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, share)) if len(known) else math.nan
