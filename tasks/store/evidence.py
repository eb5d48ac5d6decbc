"""What the store knows that a decision may rest on, gathered for the policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.drift.matters.label_mix import LabelMix
from tasks.core.policy.approval import SILENCE, is_by_hand
from tasks.core.policy.decision import cause_of, wanted_cause
from tasks.core.policy.evidence import CheckOutcome, Evidence, HarmOutcome
from tasks.core.policy.label_fault import (
    USUAL,
    LabelledWindow,
    SuspectWindow,
    usual_mix,
    windows_to_look_at,
    without_suspects,
)
from tasks.core.policy.label_fault import suspect_windows as judge_windows
from tasks.core.policy.probation import is_auto_rollback
from tasks.core.policy.staleness import MEMORY, Staleness, WindowLosses, estimate_staleness, rule_of
from tasks.core.policy.standing import TRAINED
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc
from tasks.store import checks, ledger, watermarks
from tasks.store.coverage import unseen_by_training
from tasks.store.engine import reading
from tasks.store.labels import standing_labels
from tasks.store.schema import labels

_MOST_NUMBERS = 5_000  # labels of a window of a regression: the shares of ten cells need no more
_SPREAD = 997  # a prime: labels come in the order of time, and one in so many is from everywhere
_DATA = {"ok": True, "quarantine": True, "block": False}


def gather(
    engine: Engine,
    spec: ModelSpec,
    as_of: datetime,
    window: Window,
    *,
    version: int | None,
    champion_trained: datetime | None = None,
    new_rows: int | None = None,
    data_ok: bool | None = None,
    data_reason: str = "",
) -> Evidence:
    """Return the evidence about the champion as the store had it at `as_of`.

    Only checks of `version` count: what an earlier champion did wrong is no reason to replace this one.
    A retraining is futile when it ended without a promotion that stuck, for the cause that asks now, since
    the last one that did. What was not promoted counts within the last training window: after that its rows
    are all replaced and a new attempt is another one. A promotion that went back by itself counts until a
    person acts by hand.

    Args:
        engine: the store.
        spec: the model.
        as_of: the moment to decide at; nothing later is seen.
        window: the newest window that is decided about.
        version: the champion; None where there is none.
        champion_trained: when the champion was trained.
        new_rows: labelled rows since the watermark, where they were counted.
        data_ok: whether the newest data keeps its contract; default: what the data check of the newest
            window found, nothing where there is none within one check length.
        data_reason: what is wrong with it.
    """
    moment = utc(as_of)
    if data_ok is None:
        data_ok, data_reason = _data(engine, spec, moment)
    rows = [row for row in ledger.history(engine, spec.name) if row.at <= moment]
    trained = tuple(row.at for row in rows if row.action in TRAINED and not is_by_hand(row.decision_id))
    suspects = suspect_windows(engine, spec, window, moment)
    losses = champion_losses(engine, spec, moment)
    found = Evidence(
        as_of=moment,
        data_ok=data_ok,
        data_reason=data_reason,
        drift=_outcomes(engine, spec, "drift", version, moment),
        performance=without_suspects(_outcomes(engine, spec, "performance", version, moment), suspects),
        label_fault=f"{suspects[-1].window}: {suspects[-1].reason}" if suspects else None,
        new_rows=new_rows,
        new_labels=_new_labels(engine, spec, champion_trained, moment),
        last_training=max(trained, default=None),
        retrainings=trained,
        champion_trained=champion_trained,
        staleness=_staleness(spec, losses, moment, champion_trained, trained),
        judged_until=losses[-1].window.end if losses else None,
        has_champion=version is not None,
        window=window,
    )
    return replace(found, futile=_futile(rows, wanted_cause(found, spec), spec, moment))


def champion_losses(engine: Engine, spec: ModelSpec, as_of: datetime) -> list[WindowLosses]:
    """Return what the champions lost on each window that was compared by then, oldest first."""
    wanted = int(MEMORY * max(rule_of(spec).training, 1)) + 1
    found = _apart(checks.recent(engine, spec.name, "champions", wanted, as_of))
    return [
        WindowLosses.from_summary(check.window, check.summary["losses"])
        for check in found
        if check.summary.get("losses")
    ]


def _staleness(
    spec: ModelSpec,
    losses: Sequence[WindowLosses],
    as_of: datetime,
    trained_at: datetime | None,
    trainings: Sequence[datetime],
) -> Staleness | None:
    if trained_at is None:
        return None
    return estimate_staleness(
        losses,
        rule_of(spec),
        as_of=as_of,
        trained_at=trained_at,
        length=parse_duration(spec.window.check).total_seconds(),
        trainings=trainings,
        price=spec.costs.per_retraining or None,
    )


def suspect_windows(
    engine: Engine, spec: ModelSpec, window: Window, as_of: datetime
) -> tuple[SuspectWindow, ...]:
    """Return the windows up to this one whose labels are suspected to be wrong, oldest first.

    The newest labels count, so that corrected ones clear the suspicion by themselves. Whether inputs and
    scores moved is what the drift checks that cover most of a window found.
    """
    spans = windows_to_look_at(window, spec, as_of)
    drifts = _drift_checks(engine, spec, spans[0], as_of)
    history = [
        LabelledWindow(
            span, label_counts(engine, spec.name, span, as_of, most=_most(spec)), *_moved(drifts, span)
        )
        for span in spans
    ]
    return judge_windows(history, spec, as_of)


@dataclass(frozen=True)
class Around:
    """What is known around a window: its usual labels, and whether scores and inputs moved in it.

    `usual` is the median mix of the six windows before. `scores_moved` and `inputs_moved` are None where the
    drift checks of the window could not tell, or cover too little of it.
    """

    usual: LabelMix
    scores_moved: bool | None
    inputs_moved: bool | None


def around(engine: Engine, spec: ModelSpec, window: Window, as_of: datetime) -> Around:
    """Return what the store knows around this window."""
    mixes = [
        label_counts(engine, spec.name, window.before(back), as_of, most=_most(spec))
        for back in range(USUAL, 0, -1)
    ]
    drifts = _drift_checks(engine, spec, window, as_of)
    return Around(usual_mix(mixes, numbers=spec.task == "regression"), *_moved(drifts, window))


def _drift_checks(engine: Engine, spec: ModelSpec, oldest: Window, as_of: datetime) -> list[checks.Check]:
    """Return the drift checks since the start of the oldest window."""
    length = parse_duration(spec.window.check)
    wanted = max(-(-(as_of - oldest.start) // length), 0) + 2
    return checks.recent(engine, spec.name, "drift", wanted, as_of)


def _moved(drifts: Sequence[checks.Check], window: Window) -> tuple[bool | None, bool | None]:
    """Return whether scores and inputs moved in the window: what the checks of most of its time found.

    Labels mature later than rows arrive, so their windows seldom begin where those of drift checks do. Where
    neither answer holds for most of the time, it is not known.
    """

    def moved(name: str, drifted: str) -> bool | None:
        answers = {True: timedelta(0), False: timedelta(0)}
        for drift in drifts:
            overlap = min(drift.window.end, window.end) - max(drift.window.start, window.start)
            # Checks of earlier releases know only what drifted.
            answer = drift.summary[name] if name in drift.summary else _before(drift, drifted)
            if overlap > timedelta(0) and answer is not None:
                answers[bool(answer)] += overlap
        return next((answer for answer, span in answers.items() if 2 * span > window.length), None)

    return moved("scores_moved", "score_drifted"), moved("inputs_moved", "drifted")


def _before(drift: checks.Check, drifted: str) -> bool | None:
    return bool(drift.summary.get(drifted)) or (False if drift.outcome == "ok" else None)


def _most(spec: ModelSpec) -> int | None:
    return _MOST_NUMBERS if spec.task == "regression" else None


def label_counts(
    engine: Engine, model: str, window: Window, as_of: datetime, *, most: int | None = None
) -> dict[Any, int]:
    """Return how often each label stands on the predictions of the window, one label per prediction.

    The database counts, so the size of the window does not matter here. Of labels that are nearly all
    different, numbers, only `most` are taken, spread over the window, the same ones every time.
    """
    standing = standing_labels(model, window, as_of=as_of)
    text = sa.cast(labels.c.label, sa.Text).label("text")
    rows = sa.select(text).select_from(standing).join(labels, labels.c.id == standing.c.label_id)
    if most is not None:
        rows = rows.order_by(standing.c.label_id % _SPREAD, standing.c.label_id).limit(most)
    taken = rows.subquery()
    query = sa.select(taken.c.text, sa.func.count().label("rows")).group_by(taken.c.text)
    with reading(engine) as connection:
        return {json.loads(row.text): int(row.rows) for row in connection.execute(query)}


def _data(engine: Engine, spec: ModelSpec, as_of: datetime) -> tuple[bool | None, str]:
    newest = checks.recent(engine, spec.name, "data", 1, as_of)
    # What was wrong with an earlier window says nothing about the data of today.
    if not newest or newest[0].window.end <= as_of - parse_duration(spec.window.check):
        return None, ""
    said = newest[0].summary.get("sentence") or newest[0].summary.get("reason") or ""
    return _DATA.get(newest[0].outcome), str(said)


def _new_labels(engine: Engine, spec: ModelSpec, trained: datetime | None, as_of: datetime) -> int | None:
    """Return the labels no training has seen; None where the spec does not ask, or nothing was trained."""
    if spec.retrain.min_new_labels is None:
        return None
    maturity = parse_duration(spec.label.maturity)
    standing = watermarks.get(engine, spec.name)
    # Without a watermark (a version made elsewhere) the training saw at most what was mature on its day.
    until = standing.moment if standing else trained - maturity if trained else None
    if until is None:
        return None
    reach = Window.ending(as_of - maturity, spec.window.training)
    return unseen_by_training(engine, spec.name, reach, trained_until=until, maturity=maturity, as_of=as_of)


def _outcomes(
    engine: Engine, spec: ModelSpec, kind: checks.Kind, version: int | None, as_of: datetime
) -> tuple[CheckOutcome, ...]:
    wanted = spec.drift.windows[1]
    found = _apart(checks.recent(engine, spec.name, kind, 20 * wanted, as_of))[-wanted:]
    return tuple(
        CheckOutcome(
            check.window,
            check.outcome,  # type: ignore[arg-type]  # checked when it is made
            str(check.summary.get("reason") or ""),
            *_harm(check),
            strength=check.summary.get("strength"),
        )
        for check in found
        if check.version == version
    )


def _harm(check: checks.Check) -> tuple[HarmOutcome | None, str]:
    """Return what the check estimated the drift to do, and why; checks of before have nothing of it."""
    found = check.summary.get("harm")
    if not isinstance(found, dict) or found.get("outcome") not in get_args(HarmOutcome):
        return None, ""
    return found["outcome"], str(found.get("reason") or "")


def _apart(found: list[checks.Check]) -> list[checks.Check]:
    """Return the checks whose windows do not overlap, the newest first chosen: one bad week counts once."""
    chosen: list[checks.Check] = []
    for check in sorted(found, key=lambda item: item.window.end, reverse=True):
        if not chosen or check.window.end <= chosen[-1].window.start:
            chosen.append(check)
    return chosen[::-1]


def _futile(rows: list[ledger.LedgerRow], cause: str | None, spec: ModelSpec, as_of: datetime) -> int:
    """Return how many retrainings for this cause did not help, since one did."""
    since = as_of - parse_duration(spec.window.training)
    # What a person rejected helped no more than what the gate kept; the attempt behind it has the cause.
    rejected = {row.to_version for row in rows if row.action == "rejected" and row.actor != SILENCE}
    # Nor did a version that had to go back by itself: its promotion does not end a row of vain attempts.
    failed: set[int | None] = set()
    has_acted = False  # a person, after the rows that are looked at by then
    count = 0
    for row in reversed(rows):
        if is_auto_rollback(row.decision_id):
            failed.add(row.evidence.get("instead_of", row.from_version))
        if row.action == "promoted" and row.to_version not in failed:
            break
        if is_by_hand(row.decision_id):
            has_acted |= row.actor != SILENCE
            continue
        # A window of new rows makes another attempt worth it, but not another round of there and back.
        counts = row.at > since or (row.action == "promoted" and not has_acted)
        same = (row.cause or cause_of(row.decision_id)) == cause
        vain = row.action in {"kept", "refused", "promoted"} or (
            row.action == "waiting" and row.to_version in rejected
        )
        count += cause is not None and counts and same and vain
    return count
