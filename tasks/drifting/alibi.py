"""The tests of alibi-detect, fed so that they cannot fall silent, beside or in place of our own.

By themselves its detectors call a window with one NaN undrifted, take infinities for merely large and
identifiers beyond 2**53 for equal, trust the order of columns, and fail on an empty window or an unseen
category. So a feature comes alone, without nulls, infinities and unreadable cells (the shares of those are
judged apart), numbers as dense ranks and categories as the group of their cell. What they give goes through
the same level and effect sizes as our own p-values.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.counting.bins import Counts
from tasks.core.drift.measures.base import Aspect, Pair, Reading
from tasks.core.drift.results import JOINT, Comparison, DriftVerdict, OuterTest
from tasks.core.errors import DriftError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.core.drift.counting.values import Floats
    from tasks.core.drift.profile import Profile, Reference
    from tasks.core.spec import ModelSpec

    Codes = NDArray[np.int16]

FEWEST_VALUES = 20  # of a feature in either sample; as our own tests need
FEWEST_ROWS = 200  # a side, for whole rows; as our own classifier needs
FOUND_BY = {"ks": "ks", "cvm": "ks", "fisher": "chi_square", "chi_square": "chi_square"}


@dataclass(frozen=True)
class Theirs:
    """One of alibi-detect's tests of one feature: which, its statistic, and its p-value."""

    test: str  # ks, cvm, fisher or chi_square
    statistic: float
    p_value: float

    def outer(self) -> OuterTest:
        """Return it as the test that replaces our own of that kind."""
        return OuterTest(FOUND_BY[self.test], self.statistic, self.p_value)


def installed() -> bool:
    """Return whether alibi-detect is there, without importing it: that takes seconds."""
    return importlib.util.find_spec("alibi_detect") is not None


def feature_tests(
    spec: ModelSpec,
    reference: Reference,
    against: Profile,
    profile: Profile,
    *,
    dispersions: Mapping[str, Mapping[Aspect, Dispersion]] | None = None,
    values: Mapping[str, tuple[Floats, Floats]] | None = None,
    seed: int = 0,
) -> dict[str, Theirs]:
    """Return alibi-detect's test of every feature that one can be made of.

    Two-valued features get Fisher's exact test (FETDrift, two-sided), other categories chi-square and numbers
    Kolmogorov-Smirnov (TabularDrift) or, as `alibi_cvm`, Cramér-von Mises (CVMDrift). The counts say how many
    rows each cell held, so rows of cell numbers are drawn from them: at most `drift.sample` of each side, by
    the seed; where rows depend on each other, only as many as independent ones would be worth.

    A feature is left out where either sample has fewer than 20 values, or where there is one value only, or
    categories too rare for a chi-square test: our own test of it stands.

    Args:
        spec: Of which `drift.detector` and `drift.sample` are used.
        reference: The champion's.
        against: Counts of the rows compared with.
        profile: The window's.
        dispersions: By feature and aspect, how much more windows differ than independent rows would.
        values: By numeric feature, the finite values of rows of both sides; used instead of counts.
        seed: Of the draws.

    Raises:
        DriftError: when alibi-detect is not installed.
    """
    detectors = _detectors()
    rng = np.random.default_rng(seed)
    found = {}
    for bins in reference.bins:
        if bins.name not in profile.features:
            continue
        before = against.features.get(bins.name, reference.profile.features[bins.name])
        pair = Pair(bins, before, profile.features[bins.name], (dispersions or {}).get(bins.name, {}))
        drawn = _drawn(pair, spec.drift.sample, rng)
        if drawn is None:
            continue
        columns = _columns(drawn, (values or {}).get(bins.name), rng)
        theirs = _test(detectors, drawn, columns, rng if spec.drift.detector == "alibi_cvm" else None)
        if theirs is not None:
            found[bins.name] = theirs
    return found


def row_test(reference: Codes, current: Codes, *, seed: int = 0) -> Reading:
    """Return how well alibi-detect's ClassifierDrift tells whole rows apart, with scikit-learn's trees.

    It learns from half of the rows and compares what it says of the others by a one-sided
    Kolmogorov-Smirnov test, so the p-value is that of rows it has not seen; the value is the area under the
    ROC curve of the same rows. By itself it draws the halves from numpy's global state: here by the seed.

    Args:
        reference: Rows as cell numbers, -1 for a null and -2 for what cannot be read: values like any other.
        current: Likewise; fewer than 200 rows a side are not enough.
        seed: Of the halves and of the trees.

    Raises:
        DriftError: when alibi-detect is not installed.
    """
    if min(len(reference), len(current)) < FEWEST_ROWS:
        note = f"{len(reference)} and {len(current)} rows; {FEWEST_ROWS} of each are needed"
        return Reading(None, note=note)
    from sklearn.ensemble import HistGradientBoostingClassifier

    from tasks.core.drift.rows.domain import mann_whitney

    trees = HistGradientBoostingClassifier(
        max_iter=40, class_weight="balanced", early_stopping=False, random_state=seed
    )
    with _quiet(), _seeded(seed):
        detector = _detectors().ClassifierDrift(
            reference.astype(np.float64), trees, backend="sklearn", preds_type="probs", train_size=0.5
        )
        data = detector.predict(current.astype(np.float64))["data"]
    scores = np.concatenate([data["probs_ref"], data["probs_test"]])
    area, _ = mann_whitney(scores, np.arange(len(scores)) >= len(data["probs_ref"]))
    return Reading(area, float(data["p_val"]), float(data["distance"]), "by alibi-detect's ClassifierDrift")


def compare(
    ours: DriftVerdict, theirs: Mapping[str, Theirs], joint: Reading | None = None
) -> tuple[Comparison, ...]:
    """Return our p-values beside theirs: they agree when, at the check's level, both reject or neither.

    Args:
        ours: The verdict that our own tests came to.
        theirs: By feature.
        joint: What their classifier read of whole rows; None where it was not asked.
    """
    level = ours.false_alarms if ours.level is None else ours.level
    mine = {(r.feature, r.measure): r.p_value for f in ours.features for r in f.measures}
    found = [
        _compared(name, test.test, mine.get((name, FOUND_BY[test.test])), test.p_value, level)
        for name, test in theirs.items()
    ]
    if joint is not None:
        found.append(_compared(JOINT, "classifier", mine.get((JOINT, "domain_auc")), joint.p_value, level))
    return tuple(found)


def _compared(feature: str, test: str, ours: float | None, theirs: float | None, level: float) -> Comparison:
    def rejects(p_value: float | None) -> bool | None:
        return None if p_value is None or np.isnan(p_value) else p_value < level

    return Comparison(feature, test, ours, theirs, rejects(ours) == rejects(theirs))


def _drawn(pair: Pair, most: int, rng: np.random.Generator) -> Pair | None:
    """Return the pair as so many rows of either side, drawn from its counts without replacement."""
    sides = (pair.reference, pair.current)
    worth = [side.values for side in sides]
    if min(worth) < FEWEST_VALUES:
        return None
    factor = float(pair.dispersion("distribution").between(*worth, top=True))
    rows = [min(most, int(values / factor)) for values in worth]
    if min(rows) < FEWEST_VALUES:
        return None
    reference, current = (_draw(side, size, rng) for side, size in zip(sides, rows, strict=True))
    return replace(pair, reference=reference, current=current)


def _draw(counts: Counts, rows: int, rng: np.random.Generator) -> Counts:
    if rows >= counts.values:
        return counts
    cells = np.array(counts.cells, dtype=np.int64)
    if counts.values < 10**9:
        drawn = rng.multivariate_hypergeometric(cells, rows)
    else:  # more than numpy draws from without replacement; of so many it makes no difference
        drawn = rng.multinomial(rows, cells / cells.sum())
    return Counts(rows, 0, 0, 0, 0, tuple(drawn.tolist()))


def _test(
    detectors: Any,  # Any: a module of an optional package
    pair: Pair,
    columns: tuple[Floats, Floats],
    ties: np.random.Generator | None,
) -> Theirs | None:
    """Return the test that fits the values; with a generator for ties, Cramér and von Mises' of numbers."""
    reference, current = columns
    values = int(max(reference.max(), current.max())) + 1
    if values < 2:
        return None
    with _quiet():
        if values == 2:
            return _fisher(detectors, reference, current)
        if pair.bins.kind == "categorical":
            return _tabular(detectors, reference, current, categories=True) if pair.fits_chi_square else None
        if ties is not None:
            return _cramer(detectors, reference, current, ties)
        return _tabular(detectors, reference, current, categories=False)


def _columns(
    pair: Pair, values: tuple[Floats, Floats] | None, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the rows of both sides as dense ranks 0, 1, ...: one column each, reference first."""
    sides = (pair.reference, pair.current)
    if values is None:
        labels = pair.group_of_cell if pair.bins.kind == "categorical" else np.arange(pair.bins.cells)
        ours, theirs = (np.repeat(labels, side.cells) for side in sides)
    else:
        ours, theirs = (
            rng.choice(known, side.values, replace=False) if side.values < len(known) else known
            for side, known in zip(sides, values, strict=True)
        )
    _, ranks = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    column = ranks.astype(np.float64).reshape(-1, 1)
    return column[: len(ours)], column[len(ours) :]


def _tabular(detectors: Any, reference: Floats, current: Floats, *, categories: bool) -> Theirs:
    known = {0: None} if categories else None
    fitted = detectors.TabularDrift(reference, categories_per_feature=known)
    return _read("chi_square" if categories else "ks", fitted.predict(current, drift_type="feature"))


def _fisher(detectors: Any, reference: Floats, current: Floats) -> Theirs:
    """Return Fisher's test; its odds ratio may be infinite, so the statistic is the difference of shares."""
    fitted = detectors.FETDrift(reference, alternative="two-sided")
    found = _read("fisher", fitted.predict(current, drift_type="feature"))
    return replace(found, statistic=float(current.mean() - reference.mean()))


def _cramer(detectors: Any, reference: Floats, current: Floats, ties: np.random.Generator) -> Theirs:
    """Return Cramér and von Mises' test with ties broken by chance.

    Its p-value knows of no ties: two equal constant columns give 6e-8. Noise between neighbouring ranks, the
    same for both sides, leaves the test exact.
    """
    apart = [side + ties.random(side.shape) for side in (reference, current)]
    return _read("cvm", detectors.CVMDrift(apart[0]).predict(apart[1], drift_type="feature"))


def _read(test: str, said: Mapping[str, Any]) -> Theirs:  # Any: what alibi-detect returns
    data = said["data"]
    return Theirs(test, float(data["distance"][0]), float(data["p_val"][0]))


def _detectors() -> Any:  # Any: a module of an optional package
    try:
        with _quiet():
            from alibi_detect import cd
    except ImportError as err:
        raise DriftError(
            "a detector of alibi-detect without alibi-detect",
            "the package alibi-detect 0.13",
            "install it (mind its licence), or set drift.detector to tabular",
        ) from err
    return cd


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep its warnings to itself: "no categories given: all features are numerical" is as intended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = np.random.get_state()  # what alibi-detect draws from
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
