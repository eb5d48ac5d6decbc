"""Outcomes of what was read of every feature: is it more than chance, does it matter, can one tell?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.core.drift.chance.benjamini_hochberg import Level, share_budget
from tasks.core.drift.chance.power import CHANGE, detectable, needed_rows
from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.domain_auc import DOMAIN_AUC
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.readings import ASPECTS, Read, Row
from tasks.core.drift.results import JOINT, FeatureVerdict, MeasureResult, Outcome, worst

Levels = Mapping[tuple[str, str], Level]
Said = tuple[Outcome, str]


def judge_features(
    found: Mapping[str, Read], joint: Reading | None, level: float
) -> tuple[FeatureVerdict, ...]:
    """Return the verdict on every feature, and last the one on whole rows where they were read.

    Args:
        found: What was read, by feature.
        joint: What a classifier of whole rows read.
        level: Of Benjamini and Hochberg's procedure over all their tests.
    """
    p_values = {(f, m): r.p_value for f, read in found.items() for m, r in read.row.items()}
    if joint is not None:
        p_values[JOINT, DOMAIN_AUC.name] = joint.p_value
    told = {test: p_value for test, p_value in p_values.items() if p_value is not None}
    levels = share_budget(told, level)
    share = level / max(len(told), 1)
    features = [_judge_feature(read, levels, share) for read in found.values()]
    if joint is not None:
        features.append(_judge_joint(joint, levels, max((r.pair for r in found.values()), key=_rows)))
    return tuple(features)


def overall(features: Sequence[FeatureVerdict]) -> Outcome:
    """Return the worst outcome; a feature that can never be judged speaks only when none can be.

    It is named in the reason all the same. A column that vanished is no such case: its missing share drifts.
    One that could be judged with more rows makes the whole undecided, unless something else is wrong.
    """
    judged = [f.outcome for f in features if f.outcome != "undecided" or f.needed is not None]
    return worst([outcome for outcome in judged if outcome != "ok"] or judged)


def _rows(pair: Pair) -> int:
    return pair.current.rows


def _judge_feature(read: Read, levels: Levels, share: float) -> FeatureVerdict:
    pair, row = read.pair, read.row
    name = pair.bins.name
    used = [m for m in MEASURES if m.name in row]
    mine = {m.name: levels[name, m.name] for m in used if (name, m.name) in levels}
    proven = {m.aspect for m in used if m.name in mine and mine[m.name].rejects}
    untested = _differs(row) and not any(m.name in mine for m in used if m.aspect == "distribution")
    results = []
    for measure in used:
        reading = row[measure.name]
        said = _level(measure, reading, proven=measure.aspect in proven)
        if untested and measure.aspect == "distribution" and said[0] == "ok":
            said = "undecided", reading.note or "it differs, and no test could be made of it"
        results.append(_result(pair, measure, reading, mine.get(measure.name), said))
    return _sum_up(pair, tuple(results), share)


def _judge_joint(joint: Reading, levels: Levels, pair: Pair) -> FeatureVerdict:
    level = levels.get((JOINT, DOMAIN_AUC.name))
    said = _level(DOMAIN_AUC, joint, proven=level is not None and level.rejects)
    result = MeasureResult(
        measure=DOMAIN_AUC.name,
        feature=JOINT,
        value=joint.value,
        direction="higher",
        threshold=DOMAIN_AUC.drift,
        p_value=joint.p_value,
        alpha=level.alpha if level else None,
        statistic=joint.statistic,
        n_reference=pair.reference.rows,
        n_current=pair.current.rows,
        outcome=said[0],
        reason=said[1],
    )
    return FeatureVerdict(JOINT, *said, (result,))


def _result(pair: Pair, measure: Measure, reading: Reading, level: Level | None, said: Said) -> MeasureResult:
    of_rows = measure.aspect in {"missing", "invalid"}
    n = pair.reference.rows if of_rows else pair.reference.values
    m = pair.current.rows if of_rows else pair.current.values
    return MeasureResult(
        measure=measure.name,
        feature=pair.bins.name,
        value=reading.value,
        direction="higher",
        threshold=measure.drift,
        p_value=reading.p_value,
        alpha=level.alpha if level else None,
        statistic=reading.statistic,
        n_reference=n,
        n_current=m,
        outcome=said[0],
        reason=said[1],
        dispersion=pair.factor(measure.aspect),
    )


def _differs(row: Row) -> bool:
    """Whether any distribution measure saw a difference at all: two equal constants need no test."""
    distribution = [m.name for m in MEASURES if m.aspect == "distribution" and m.name in row]
    return any((row[name].value or 0) > 0 for name in distribution)


def _level(measure: Measure, reading: Reading, *, proven: bool) -> Said:
    if reading.value is None:
        return "undecided", reading.note
    size = f"{measure.name} {reading.value:.3g}" + (f" ({reading.note})" if reading.note else "")
    if reading.value < measure.warn:
        return "ok", f"{size} is below {measure.warn:g}"
    if not proven:
        return "ok", f"{size} may be chance"
    if reading.value < measure.drift:
        return "warn", f"{size} is between {measure.warn:g} and {measure.drift:g}"
    return "drift", f"{size} is at least {measure.drift:g}"


def _sum_up(pair: Pair, results: tuple[MeasureResult, ...], share: float) -> FeatureVerdict:
    name = pair.bins.name
    needed, found = _power(pair, results, share)
    loud = [r for r in results if r.outcome in {"drift", "warn"}]
    if loud:
        outcome = worst([r.outcome for r in loud])
        reason = next(r.reason for r in loud if r.outcome == outcome) + _differing(pair)
        return FeatureVerdict(name, outcome, reason, results, needed, found)
    distribution = [r for r in results if ASPECTS[r.measure] == "distribution"]
    silent = [r for r in distribution if r.outcome == "undecided"]
    if len(silent) == len(distribution):
        return FeatureVerdict(name, "undecided", silent[0].reason, results)
    if found is not None and (needed is None or pair.current.values < needed):
        return FeatureVerdict(name, "undecided", _lacks(pair, needed), results, needed, found)
    usual = _differing(pair)
    reason = "no difference that matters and is not chance" + usual
    if usual and found is not None:
        reason += f" anyway, so that one shows from {max(found, CHANGE):.2g} on"
    return FeatureVerdict(name, "ok", reason, results, needed, found)


def _power(pair: Pair, results: Sequence[MeasureResult], share: float) -> tuple[int | None, float | None]:
    """Return how many values are needed, and what can be found in these; None where nothing is compared."""
    tested = any(r.p_value is not None and ASPECTS[r.measure] == "distribution" for r in results)
    groups = pair.groups.shape[1] if pair.reference.values and pair.current.values else 0
    if not tested or groups < 2:  # one group: nothing to compare
        return None, None
    dispersion = pair.dispersion("distribution")
    n, m = pair.reference.values, pair.current.values
    needed = needed_rows(groups, share, n)
    for _ in range(5):  # more rows are compared in more groups, which takes more rows again
        if needed is None or m >= needed:
            break
        more = pair.groups_of(needed)
        if more <= groups:
            break
        groups, needed = more, needed_rows(more, share, n)
    return needed, detectable(pair.groups.shape[1], share, n, m, dispersion)


def _lacks(pair: Pair, needed: int | None) -> str:
    have = f"{pair.current.values} values"
    if needed is None:
        return f"{have}; {pair.reference.values} values of the reference cannot show a PSI of {CHANGE:g}"
    return f"{have}; {needed} are needed to see a PSI of {CHANGE:g}"


def _differing(pair: Pair) -> str:
    """Return by how much windows differ anyway, where that is more than independent rows would."""
    if pair.dispersion("distribution").independent or not pair.reference.values or not pair.current.values:
        return ""
    return f"; windows of the reference differ by PSI {pair.chance:.2g}"
