"""What the store knows that a decision may rest on, gathered for the policy."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, get_args

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.policy.approval import SILENCE, is_by_hand
from tasks.core.policy.decision import cause_of, wanted_cause
from tasks.core.policy.evidence import CheckOutcome, Evidence, HarmOutcome
from tasks.core.policy.label_fault import suspect
from tasks.core.policy.probation import is_auto_rollback
from tasks.core.policy.standing import TRAINED
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc
from tasks.store import checks, ledger, watermarks
from tasks.store.coverage import unseen_by_training
from tasks.store.engine import reading
from tasks.store.labels import standing_labels
from tasks.store.schema import labels

_REFERENCE_WINDOWS = 6
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
    found = Evidence(
        as_of=moment,
        data_ok=data_ok,
        data_reason=data_reason,
        drift=_outcomes(engine, spec, "drift", version, moment),
        performance=_outcomes(engine, spec, "performance", version, moment),
        label_fault=suspected_fault(engine, spec, window, moment),
        new_rows=new_rows,
        new_labels=_new_labels(engine, spec, champion_trained, moment),
        last_training=max(trained, default=None),
        retrainings=trained,
        champion_trained=champion_trained,
        has_champion=version is not None,
        window=window,
    )
    return replace(found, futile=_futile(rows, wanted_cause(found, spec), spec, moment))


def suspected_fault(engine: Engine, spec: ModelSpec, window: Window, as_of: datetime) -> str | None:
    """Return why the labels of this window, or of the few before it, are suspected to be wrong.

    Looks at the newest labels of the last N windows (`drift.windows`), so that corrected labels clear the
    suspicion by themselves. Each window is held against the median mix of the six before it, so that one
    faulty window among them does not accuse the good one that follows. Regression labels have no mix and
    are left to the contract.
    """
    if spec.task == "regression":
        return None
    looked = [window.before(back) for back in range(spec.drift.windows[1])]
    mixes = {
        back: label_counts(engine, spec.name, window.before(back), as_of)
        for back in range(len(looked) + _REFERENCE_WINDOWS)
    }
    drifts = checks.recent(engine, spec.name, "drift", len(mixes) + 2, as_of)
    for back, span in enumerate(looked):
        reference = _usual([mixes[back + 1 + step] for step in range(_REFERENCE_WINDOWS)])
        there = [check for check in drifts if check.window.start < span.end and span.start < check.window.end]
        found = suspect(
            reference,
            mixes[back],
            any(bool(check.summary.get("score_drifted")) for check in there),
            any(check.outcome == "drift" for check in there),
        )
        if found:
            return f"{span}: {found}"
    return None


@dataclass(frozen=True)
class Around:
    """What is known around a window: its usual labels, and whether scores and inputs moved in it.

    `usual` is the median mix of the six windows before. `scores_moved` and `inputs_moved` are None where no
    drift check of the window is on record.
    """

    usual: dict[Any, int]  # Any: labels may be of any type
    scores_moved: bool | None
    inputs_moved: bool | None


def around(engine: Engine, spec: ModelSpec, window: Window, as_of: datetime) -> Around:
    """Return what the store knows around this window; the usual labels only of a classification."""
    before = range(1, _REFERENCE_WINDOWS + 1) if spec.task == "classification" else ()
    mixes = [label_counts(engine, spec.name, window.before(back), as_of) for back in before]
    wanted = spec.drift.windows[1] + _REFERENCE_WINDOWS + 2
    there = [
        check
        for check in checks.recent(engine, spec.name, "drift", wanted, as_of)
        if check.window.start < window.end and window.start < check.window.end
    ]
    known = [check for check in there if check.outcome != "undecided"]
    if not known:
        return Around(_usual(mixes), None, None)
    return Around(
        usual=_usual(mixes),
        scores_moved=any(bool(check.summary.get("score_drifted")) for check in known),
        inputs_moved=any(bool(check.summary.get("drifted")) for check in known),
    )


def label_counts(engine: Engine, model: str, window: Window, as_of: datetime) -> dict[Any, int]:
    """Return how often each label stands on the predictions of the window, one label per prediction.

    The database counts, so the size of the window does not matter here.
    """
    standing = standing_labels(model, window, as_of=as_of)
    text = sa.cast(labels.c.label, sa.Text)
    query = (
        sa.select(text.label("text"), sa.func.count().label("rows"))
        .select_from(standing)
        .join(labels, labels.c.id == standing.c.label_id)
        .group_by(text)
    )
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
        CheckOutcome(check.window, check.outcome, str(check.summary.get("reason") or ""), *_harm(check))  # type: ignore[arg-type]  # checked when it is made
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


def _usual(mixes: list[dict[Any, int]]) -> dict[Any, int]:
    """Return the median share of each label over these windows, as counts of their total."""
    full = [mix for mix in mixes if sum(mix.values()) > 0]
    if not full:
        return {}
    shares = pd.DataFrame([pd.Series(mix) / sum(mix.values()) for mix in full]).fillna(0.0).median()
    total = sum((Counter(mix) for mix in full), Counter[Any]()).total()
    scaled = shares / shares.sum() * total if shares.sum() > 0 else shares
    return {label: round(count) for label, count in scaled.items()}
