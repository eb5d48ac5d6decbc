"""The challenger on the frozen trusted rows, beside the version that has done best there."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core.errors import WorkflowError
from tasks.core.evaluation.evidence import AnchorEvidence
from tasks.core.model.answers import answers_to
from tasks.core.model.columns import number_column
from tasks.core.results import AnchorRef, Trained
from tasks.core.spec import ModelSpec
from tasks.store.models import load_model, own_types


def anchor_evidence(
    spec: ModelSpec,
    trained: Trained,
    challenger: Any,  # Any: a fitted pipeline
    anchor: AnchorRef | None,
) -> AnchorEvidence | None:
    """Return both models' answers to the anchor's rows; None only where the model has no anchor.

    Whatever goes wrong stands in `trouble`, and the gate then refuses: what cannot be read cannot speak for
    a challenger.
    """
    if anchor is None:
        return None
    found = AnchorEvidence(
        keeper_version=anchor.keeper_version,
        fixed_at=anchor.fixed_at,
        sha256=anchor.sha256,
        trouble=anchor.trouble,
    )
    if found.trouble:
        return found
    if trained.anchor_sha256 != anchor.sha256:
        return replace(found, trouble="the challenger was trained without leaving its rows out")
    what = "its rows cannot be read"
    try:
        rows = _rows(anchor)
        what = "the challenger cannot score its rows, whose columns were others perhaps"
        mine = answers_to(spec, challenger, rows)
        weight = spec.gate.weight
        weights = None if weight is None else number_column(rows[weight])
        what = f"version {anchor.keeper_version} cannot score its rows"
        theirs = None
        if anchor.keeper is not None:
            theirs = answers_to(spec, load_model(anchor.keeper.model_path, also=own_types(spec)), rows)
    except Exception as err:  # of whatever kind: without these answers nothing is shown
        told = err.found if isinstance(err, WorkflowError) else type(err).__name__
        return replace(found, trouble=f"{what} ({told}); restore it, or renew the anchor with a reason")
    return replace(found, challenger=mine, keeper=theirs, weights=weights)


def _rows(anchor: AnchorRef) -> pd.DataFrame:
    data = Path(anchor.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != anchor.sha256:
        raise ValueError("other bytes than were fixed")
    return pd.read_parquet(io.BytesIO(data))
