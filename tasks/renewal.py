"""New trusted rows in place of the old ones: a person's act, on record."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from tasks.anchor import fix_anchor
from tasks.core.errors import PromotionRefused
from tasks.core.model.bundle import MODEL, Manifest
from tasks.core.policy.approval import check_signed
from tasks.core.results import AnchorRef, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.models import load_model, own_types
from tasks.store.snapshots import local_snapshot


@task(retries=1, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def renew_anchor(
    spec: ModelSpec,
    version: int | None,
    *,
    actor: str,
    reason: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> AnchorRef:
    """Return the anchor fixed anew from rows that this version has not learnt from, by default the champion.

    For when the world has really changed, or the features have: the former rows stay on record.

    Raises:
        SpecError: when actor or reason is empty, or the spec wants no anchor.
        PromotionRefused: when there is no such version, or its holdout makes no anchor.
        RegistryError: when the version or its rows cannot be had whole, or nothing answers.
    """
    check_signed(actor, reason, model=spec.name)
    place = settings or Settings()
    found = (
        registry.find_version(spec.name, version, settings=place)
        if version
        else registry.find_champion(spec.name, settings=place)
    )
    if found is None or spec.gate.anchor.rows == 0:
        what = "no champion" if found is None else "gate.anchor.rows: 0"
        raise PromotionRefused(what, "a version whose unseen rows can be frozen", model=spec.name)
    also = own_types(spec)
    with registry.downloaded(found, settings=place) as (folder, manifest):
        load_model(folder / MODEL, sha256=manifest.files[MODEL], also=also)
        scratch = place.work_dir(f"anchor-{spec.name}-{found.number}")
        trained = _as_trained(spec, manifest, folder, scratch, place)
        made = fix_anchor.fn(
            spec,
            trained,
            version=found.number,
            actor=actor,
            reason=reason,
            as_of=as_of,
            renew=True,
            settings=place,
        )
    if made is None or made.fixed_by_version != found.number:
        raise PromotionRefused(
            f"a holdout of version {found.number} that makes no anchor",
            f"at least {spec.gate.min_rows} labelled rows, of two classes",
            "name another version",
            model=spec.name,
        )
    return made


def renewed(spec: ModelSpec, anchor: AnchorRef) -> State[Any]:
    """Return a completed state that says which rows are trusted from now on."""
    message = f"{spec.name}: {anchor.rows} rows that version {anchor.fixed_by_version} has not learnt from"
    return Completed(name="Anchor renewed", message=message, data=anchor)


def _as_trained(spec: ModelSpec, manifest: Manifest, folder: Path, scratch: Path, place: Settings) -> Trained:
    """Return the version as its training left it, with the rows it has not learnt from."""
    snapshot = manifest.snapshot
    rows = local_snapshot(
        str(snapshot["path"]), str(snapshot["sha256"]), scratch, place, model=manifest.model
    )
    frame = pd.read_parquet(rows)
    new = (frame[spec.source.timestamp] >= utc(manifest.cut)) & frame[spec.label.column].notna()
    holdout = scratch / "holdout.parquet"
    frame[new].to_parquet(holdout, index=False)
    return Trained(
        model_path=str(folder / MODEL),
        train_rows=int(manifest.training.get("train_rows") or 0),
        holdout_path=str(holdout),
        holdout_rows=int(new.sum()),
        cut=manifest.cut,
        train_window=manifest.train_window,
        params={},
        seconds=0.0,
        train_keys_sha256=str(manifest.training.get("train_keys_sha256") or ""),
        guess=(),
        model_sha256=manifest.files[MODEL],
    )
