"""A registered version as its training left it, with the rows it has not learnt from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd

from tasks.core.model.anchoring import choose_anchor
from tasks.core.model.bundle import MODEL, Manifest
from tasks.core.results import Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.settings import Settings
from tasks.store.snapshots import local_snapshot


def as_trained(spec: ModelSpec, manifest: Manifest, folder: Path, scratch: Path, place: Settings) -> Trained:
    """Return the version whose files are in `folder`; its holdout is written anew into `scratch`.

    A version that was refitted on all rows has learnt its holdout, save the rows that were left out to become
    the model's first anchor: only those are unseen, if any.

    Raises:
        RegistryError: when the snapshot is gone or changed.
    """
    snapshot = manifest.snapshot
    rows = local_snapshot(
        str(snapshot["path"]), str(snapshot["sha256"]), scratch, place, model=manifest.model
    )
    frame = pd.read_parquet(rows)
    since = _reserved_since(manifest) or manifest.cut
    unseen = frame[(frame[spec.source.timestamp] >= utc(since)) & frame[spec.label.column].notna()]
    if since != manifest.cut:
        unseen, _ = choose_anchor(spec, unseen)
    holdout = scratch / "holdout.parquet"
    unseen.to_parquet(holdout, index=False)
    return Trained(
        model_path=str(folder / MODEL),
        train_rows=int(manifest.training.get("train_rows") or 0),
        holdout_path=str(holdout),
        holdout_rows=len(unseen),
        cut=since,
        train_window=manifest.train_window,
        params={},
        seconds=0.0,
        train_keys_sha256=str(manifest.training.get("train_keys_sha256") or ""),
        guess=(),
        model_sha256=manifest.files[MODEL],
    )


def _reserved_since(manifest: Manifest) -> datetime | None:
    """Return since when rows of a refitted version were left out of the refit; None where none were."""
    text = (manifest.training.get("refit") or {}).get("reserved_since")
    return datetime.fromisoformat(text) if text else None
