"""Outcomes of what was read of every feature: is it more than chance, does it matter, can one tell?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.drift.chance.benjamini_hochberg import Level, share_budget
from tasks.core.drift.chance.power import CHANGE, detectable, needed_blocks, needed_rows, smallest_p
from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.domain_auc import DOMAIN_AUC
from tasks.core.drift.measures.psi import PSI
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.readings import ASPECTS, Read, Row
from tasks.core.drift.results import JOINT, FeatureVerdict, MeasureResult, Outcome, worst

Levels = Mapping[tuple[str, str], Level]
Said = tuple[Outcome, str]

FAR = 3.0  # times the limit of `drift`; our choice: a change of unit or a broken feed, seldom a calm window
DOUBT = 0.05  # p-value up to which a far effect is told where no p-value can be small; our choice


def judge_features(
    found: Mapping[str, Read], joint: Reading | None, level: float, budget: float
) -> tuple[FeatureVerdict, ...]:
    """Return the verdict on every feature, and last the one on whole rows where they were read.

    Args:
        found: What was read, by feature.
        joint: What a classifier of whole rows read.
        level: Of Benjamini and Hochberg's procedure over all their tests.
        budget: Share of undrifted checks that may alarm.
    """
    p_values = {(f, m): r.p_value for f, read in found.items() for m, r in read.row.items()}
    if joint is not None:
        p_values[JOINT, DOMAIN_AUC.name] = joint.p_value
    told = {test: p_value for test, p_value in p_values.items() if p_value is not None}
    levels = share_budget(told, level)
    share = level / max(len(told), 1)
    features = [_judge_feature(read, levels, share, budget) for read in found.values()]
    if joint is not None:
        features.append(_judge_joint(joint, levels, max((r.pair for r in found.values()), key=_rows)))
    return tuple(features)


def overall(features: Sequence[FeatureVerdict]) -> Outcome:
    """Return the worst outcome; a feature that can never be judged speaks only when none can be.

    It is named in the reason all the same. A column that vanished is no such case: its missing share drifts.
    One that could be judged with more rows, or whose history cannot tell even a complete change from chance,
    makes the whole undecided, unless something else is wrong.
    """
    judged = [
        f.outcome for f in features if f.outcome != "undecided" or f.needed is not None or not f.resolvable
    ]
    return worst([outcome for outcome in judged if outcome != "ok"] or judged)


def has_moved(features: Sequence[FeatureVerdict]) -> bool | None:
    """Return whether any of the features drifted or changed; None where that cannot be told.

    A feature that can never be judged, a constant say, keeps nobody from knowing it of the others.
    """
    outcomes = {
        f.outcome for f in features if f.outcome != "undecided" or f.needed is not None or not f.resolvable
    }
    if outcomes & {"drift", "warn"}:
        return True
    return None if "undecided" in outcomes or not outcomes else False


def _rows(pair: Pair) -> int:
    return pair.current.rows


def _judge_feature(read: Read, levels: Levels, share: float, budget: float) -> FeatureVerdict:
    pair, row = read.pair, read.row
    power = _power(pair, row, share)
    doubt = budget if power.resolvable else DOUBT
    name = pair.bins.name
    used = [m for m in MEASURES if m.name in row]
    mine = {m.name: levels[name, m.name] for m in used if (name, m.name) in levels}
    proven = {m.aspect for m in used if m.name in mine and mine[m.name].rejects}
    untested = _differs(row) and not any(m.name in mine for m in used if m.aspect == "distribution")
    smallest = min(
        (p for m in used if m.aspect == "distribution" and (p := row[m.name].p_value) is not None),
        default=1.0,
    )
    results = []
    for measure in used:
        reading = row[measure.name]
        said = _level(measure, reading, proven=measure.aspect in proven)
        if measure.aspect == "distribution" and said[0] == "ok" and smallest <= doubt:
            said = _if_far(measure, reading, said)
        if untested and measure.aspect == "distribution" and said[0] == "ok":
            said = "undecided", reading.note or "it differs, and no test could be made of it"
        results.append(_result(pair, measure, reading, mine.get(measure.name), said))
    return _sum_up(pair, tuple(results), power)


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


def _if_far(measure: Measure, reading: Reading, otherwise: Said) -> Said:
    """Return a warning for an effect far beyond its limit that is not shown to be more than chance."""
    if reading.value is None or reading.value < FAR * measure.drift:
        return otherwise
    times = reading.value / measure.drift
    return "warn", (
        f"{measure.name} {reading.value:.3g} is {times:.1f} times its limit of {measure.drift:g}, "
        "and this history cannot tell it from chance"
    )


def _sum_up(pair: Pair, results: tuple[MeasureResult, ...], power: Power) -> FeatureVerdict:
    def verdict(outcome: Outcome, reason: str) -> FeatureVerdict:
        return FeatureVerdict(
            pair.bins.name,
            outcome,
            reason,
            results,
            power.needed,
            power.detectable,
            power.resolvable,
            power.needed_blocks,
        )

    loud = [r for r in results if r.outcome in {"drift", "warn"}]
    if loud:
        outcome = worst([r.outcome for r in loud])
        return verdict(outcome, next(r.reason for r in loud if r.outcome == outcome) + _differing(pair))
    distribution = [r for r in results if ASPECTS[r.measure] == "distribution"]
    silent = [r for r in distribution if r.outcome == "undecided"]
    if len(silent) == len(distribution):
        return FeatureVerdict(pair.bins.name, "undecided", silent[0].reason, results)
    if not power.resolvable:
        return verdict("undecided", _blind(pair, power.needed_blocks))
    hidden = _hidden(pair, distribution, power)
    if hidden:
        power = replace(power, resolvable=False)
        return verdict("undecided", hidden)
    if power.detectable is not None and (power.needed is None or pair.current.values < power.needed):
        return verdict("undecided", _lacks(pair, power))
    usual = _differing(pair)
    reason = "no difference that matters and is not chance" + usual
    if usual and power.detectable is not None:
        reason += f" anyway, so that one shows from {max(power.detectable, CHANGE):.2g} on"
    return verdict("ok", reason)


@dataclass(frozen=True)
class Power:
    """What a window and its history can show of one feature; the fields are those of `FeatureVerdict`."""

    needed: int | None = None
    detectable: float | None = None
    resolvable: bool = True
    needed_blocks: int | None = None


def _power(pair: Pair, row: Row, share: float) -> Power:
    """Return how many values are needed, and what these can show; nothing where nothing is compared."""
    tested = any(r.p_value is not None and ASPECTS[name] == "distribution" for name, r in row.items())
    groups = pair.groups.shape[1] if pair.reference.values and pair.current.values else 0
    if not tested or groups < 2:  # one group: nothing to compare
        return Power()
    dispersion, numeric = pair.dispersion("distribution"), pair.bins.kind == "numeric"
    n, m = pair.reference.values, pair.current.values
    resolvable, blocks = True, None
    if not dispersion.independent:
        resolvable = smallest_p(groups, n, m, dispersion, numeric=numeric) <= share
        if not resolvable:
            blocks = needed_blocks(groups, share, n, m, dispersion, numeric=numeric)
    smallest = detectable(groups, share, n, m, dispersion)
    return Power(_needed(pair, groups, share), smallest, resolvable, blocks)


def _needed(pair: Pair, groups: int, share: float) -> int | None:
    n, m = pair.reference.values, pair.current.values
    needed = needed_rows(groups, share, n)
    for _ in range(5):  # more rows are compared in more groups, which takes more rows again
        if needed is None or m >= needed:
            break
        more = pair.groups_of(needed)
        if more <= groups:
            break
        groups, needed = more, needed_rows(more, share, n)
    return needed


def _hidden(pair: Pair, distribution: Sequence[MeasureResult], power: Power) -> str:
    """Return how a change that would matter hides among windows that differ anyway; else nothing.

    It does where the window differs at least twice as much as windows usually do (which the value is freed
    of) and such a change is not sure to show.
    """
    if power.detectable is None or pair.dispersion("distribution").independent:
        return ""
    value = next((r.value for r in distribution if r.measure == PSI.name), None)
    if value is None or not max(PSI.drift, pair.chance) <= value < power.detectable:
        return ""
    sure = f"only {power.detectable:.2g} is sure to show"
    return f"psi {value:.3g} would matter, and {sure}{_differing(pair)} anyway"


def _blind(pair: Pair, needed: int | None) -> str:
    blocks = pair.dispersion("distribution").blocks
    enough = f"about {needed} would do" if needed is not None else "no number of them would do"
    return (
        f"{blocks} windows of history differ so much that not even a complete change could be told from "
        f"chance; {enough}"
    )


def _lacks(pair: Pair, power: Power) -> str:
    have = f"{pair.current.values} values"
    shown = f"; a PSI of {power.detectable:.2g} would have shown" if power.detectable is not None else ""
    if power.needed is None:
        return f"{have}; {pair.reference.values} values of the reference cannot show a PSI of {CHANGE:g}"
    return f"{have}; {power.needed} are needed to see a PSI of {CHANGE:g}{shown}"


def _differing(pair: Pair) -> str:
    """Return by how much windows differ anyway, where that is more than independent rows would."""
    if pair.dispersion("distribution").independent or not pair.reference.values or not pair.current.values:
        return ""
    return f"; windows of the reference differ by PSI {pair.chance:.2g}"
