"""The challenger on the frozen trusted rows, beside the version that has done best there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core.errors import WorkflowError
from tasks.core.evaluation.evidence import AnchorEvidence
from tasks.core.model.anchoring import missing_columns
from tasks.core.model.answers import answers_to
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.columns import number_column
from tasks.core.results import AnchorRef, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.evaluating.seen import learnt_rows
from tasks.settings import Settings
from tasks.store import catalog
from tasks.store.engine import open_store
from tasks.store.models import own_types, shared_model
from tasks.store.passing import answering_not, may_pass

_LEARNT = "the challenger was trained without leaving its rows out"
_ANEW = (
    "renew it with `promote.py --verdict renew_anchor --version N`, N being a version of this spec, such as "
    "this challenger's, whether it served or not"
)


def anchor_evidence(
    spec: ModelSpec,
    trained: Trained,
    challenger: Any,  # Any: a fitted pipeline
    anchor: AnchorRef | None,
    *,
    champion: ChampionRef | None,
    snapshot: Mapping[str, Any] | None,  # Any: the snapshot's record in the champion's manifest
    settings: Settings,
) -> AnchorEvidence | None:
    """Return both models' answers to the anchor's rows; None only where the model has no anchor.

    Whatever goes wrong stands in `trouble`, and the gate then refuses: what cannot be read cannot speak for
    a challenger.
    """
    if anchor is None:
        return None
    is_left_out = trained.anchor_sha256 == anchor.sha256
    found = AnchorEvidence(
        keeper_version=anchor.keeper_version,
        fixed_at=anchor.fixed_at,
        sha256=anchor.sha256,
        trouble=anchor.trouble or ("" if is_left_out else _LEARNT),
    )
    if found.trouble:
        return found
    what = "its rows cannot be read"
    try:
        rows = _rows(anchor)
        what = "it cannot be told whether the champion, which the challenger goes on from, learnt its rows"
        by = anchor.fixed_by_version
        found = _checked(found, spec, rows, champion, fixed_by=by, snapshot=snapshot, settings=settings)
        if found.trouble:
            return found
        what = "the challenger cannot score its rows, whose columns were others perhaps"
        mine = answers_to(spec, challenger, rows)
        weight = spec.gate.weight
        weights = None if weight is None else number_column(rows[weight])
        what = f"version {anchor.keeper_version} cannot score its rows"
        theirs = None
        if anchor.keeper is not None:
            theirs = answers_to(spec, shared_model(anchor.keeper.model_path, also=own_types(spec)), rows)
    except Exception as err:  # of whatever kind: without these answers nothing is shown
        if may_pass(err):
            raise answering_not("the anchor", err, spec.name) from err
        told = err.found if isinstance(err, WorkflowError) else type(err).__name__
        return replace(found, trouble=f"{what} ({told}); restore it, or renew the anchor with a reason")
    return replace(found, challenger=mine, keeper=theirs, weights=weights)


def _checked(
    found: AnchorEvidence,
    spec: ModelSpec,
    rows: pd.DataFrame,
    champion: ChampionRef | None,
    *,
    fixed_by: int,
    snapshot: Mapping[str, Any] | None,  # Any: as above
    settings: Settings,
) -> AnchorEvidence:
    """Return the evidence, with trouble where no model of this spec can be judged on these rows."""
    if missing := missing_columns(spec, rows):
        return replace(found, trouble=f"its rows lack {', '.join(missing)[:100]}; {_ANEW}")
    shared = 0
    if champion is None or champion.version != fixed_by:  # whose training left these rows out
        shared = _inherited(spec, rows, found.sha256, champion, snapshot=snapshot, settings=settings)
    if not shared:
        return found
    why = f"the champion, which the challenger goes on from, learnt {shared} of its rows; {_ANEW}"
    return replace(found, trouble=why, rows_shared=shared)


def _inherited(
    spec: ModelSpec,
    rows: pd.DataFrame,
    sha256: str,
    champion: ChampionRef | None,
    *,
    snapshot: Mapping[str, Any] | None,  # Any: as above
    settings: Settings,
) -> int:
    """Return how many of the anchor's rows the challenger knows from the champion it goes on from.

    None of those that the champion itself was trained without, as it was where it has a score on them.
    """
    if champion is None or spec.estimator.mode != "partial_fit":
        return 0
    if not (rows[spec.source.timestamp] < utc(champion.train_end)).any():
        return 0
    facts = catalog.version_facts(open_store(settings), spec.name, champion.version)
    if facts is not None and facts.anchor_sha256 == sha256 and facts.anchor_score is not None:
        return 0
    return learnt_rows(spec, rows, champion, snapshot, settings)


def _rows(anchor: AnchorRef) -> pd.DataFrame:
    data = Path(anchor.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != anchor.sha256:
        raise ValueError("other bytes than were fixed")
    return pd.read_parquet(io.BytesIO(data))
