"""What the champions do on the newest labels, and the change of partner that follows from it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.errors import WorkflowError
from tasks.core.evaluation.comparison import ComparedChampions, FormerChampion, compare_champions
from tasks.core.model.bundle import MODEL
from tasks.core.policy.partners import pair_after, withdrawn_partners
from tasks.core.policy.served import served_before
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import checks, evidence, ledger
from tasks.store.agreed import copy_as_served
from tasks.store.dataset_parts import check_part, parts_of
from tasks.store.engine import open_store
from tasks.store.labels import matured
from tasks.store.models import own_types, shared_model
from tasks.store.passing import may_pass
from tasks.versions.partner import set_partner

ACTOR = "second opinion"
_STEP: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 5, "cache_policy": NO_CACHE}


@task(timeout_seconds=300, **_STEP)
def is_compared(
    spec: ModelSpec, window: Window, version: int, *, as_of: datetime, settings: Settings | None = None
) -> bool:
    """Return whether the champions were compared on this window while this version was the newest."""
    newest = checks.recent(open_store(settings), spec.name, "champions", 1, as_of)
    return bool(newest) and newest[0].window == window and newest[0].version == version


@task(timeout_seconds=3600, **_STEP)
def compare_on_labels(
    spec: ModelSpec,
    window: Window,
    dataset: Dataset,
    version: int,
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> ComparedChampions | None:
    """Return what each champion loses on the labelled rows of the window; None where none can be compared.

    None also where the champion has learnt a row of the window, or its labels are suspect. A former champion
    that cannot be had whole, or cannot answer these rows, is left out with a warning: the comparison is not
    what keeps serving alive.

    Args:
        spec: The model.
        window: The newest window whose labels are mature.
        dataset: The source's rows of the window, features and label among them.
        version: The champion.
        as_of: The moment it counts as measured; labels that became known later are not seen.
        settings: This place.
    """
    started, place = time.monotonic(), settings or Settings()
    engine = open_store(place)
    history = [row for row in ledger.history(engine, spec.name) if utc(row.at) <= utc(as_of)]
    champions = _loaded(spec, [version], place)
    if version not in champions or champions[version].learnt_until > window.start:
        return None
    suspects = evidence.suspect_windows(engine, spec, window, utc(as_of))
    if any(suspect.window.start < window.end and window.start < suspect.window.end for suspect in suspects):
        return None
    rows = _labelled(spec, dataset, window, as_of, place)
    if rows.empty:
        return None
    most = None if spec.serving.champions is None else spec.serving.champions - 1
    champions |= _loaded(spec, list(served_before(history))[:most], place)
    found = compare_champions(
        champions,
        version,
        rows,
        spec,
        window,
        as_of=utc(as_of),
        withdrawn=withdrawn_partners(history, version),
    )
    task_logger(__name__).info(
        "%s: %d champions compared on %d labels of %s in %.1f s: %s",
        *(spec.name, len(champions), found.opinion.rows, window, time.monotonic() - started, found.reason),
    )
    return found


@task(timeout_seconds=600, **_STEP)
def follow_second_opinion(
    spec: ModelSpec,
    compared: ComparedChampions | None,
    version: int,
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> ledger.LedgerRow | None:
    """Return the ledger's row of a change of partner; None where nothing changes.

    Nothing changes where the window could not tell, or another version than `version` serves by now. A
    partner that is refused, or cannot be believed, leaves the champion with what stands beside it.
    """
    place = settings or Settings()
    pair = pair_after(ledger.history(open_store(place), spec.name))
    if compared is None or not compared.opinion.decided or pair.champion != version:
        return None
    partner = compared.opinion.partner
    if partner == pair.partner:
        return None
    try:
        return set_partner(
            spec,
            partner,
            champion=version,
            actor=ACTOR,
            reason=compared.reason,
            decision_id=f"second-opinion-{version}-{compared.window.end:%Y%m%dT%H%M%S}",
            as_of=as_of,
            settings=place,
        )
    except WorkflowError as err:
        if may_pass(err):
            raise
        task_logger(__name__).warning("%s: version %s does not answer beside it: %s", spec.name, partner, err)
        return None


def _loaded(spec: ModelSpec, numbers: list[int], place: Settings) -> dict[int, FormerChampion]:
    """Return the versions that can be loaded, by number."""
    loaded = {}
    for number in numbers:
        try:
            copy = copy_as_served(spec.name, number, place, own_types(spec))
            also = {*own_types(spec), *own_types(copy.spec)}
            model = shared_model(copy.model_path, sha256=copy.manifest.files[MODEL], also=also)
        except WorkflowError as err:
            if may_pass(err):
                raise
            task_logger(__name__).warning("%s: version %d is not compared: %s", spec.name, number, err)
            continue
        loaded[number] = FormerChampion(number, model, copy.train_end)
    return loaded


def _labelled(
    spec: ModelSpec, dataset: Dataset, window: Window, as_of: datetime, place: Settings
) -> pd.DataFrame:
    """Return the rows of the window that keep the contract, by time, each with its label as known by now."""
    parts = [check_part(part, dataset, spec).good for part in parts_of(dataset, spec)]
    rows = pd.concat(parts, ignore_index=True)
    label = spec.label.column
    if spec.label.source is not None:
        known = matured(open_store(place), spec.name, window, as_of=as_of)
        labels = dict(zip(known["row_key"], known["label"], strict=True))
        rows = rows.assign(**{label: rows[spec.source.key].astype(str).map(labels)})
    if label not in rows:
        return rows.iloc[:0]
    rows = rows[rows[label].notna()]
    return rows.sort_values([spec.source.timestamp, spec.source.key], kind="stable", ignore_index=True)
