"""Versions as they come to be: rows kept, bundle registered whole, one version per attempt."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError, RegistryUnavailable
from tasks.core.model.bundle import Manifest
from tasks.core.policy.stages import FILED
from tasks.core.records.text import number
from tasks.core.results import Evaluated, Trained
from tasks.core.spec import ModelSpec
from tasks.core.spec_change import as_served, beside, spec_change
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import catalog, lifecycle, registry, runs, succession
from tasks.store.bundles import write_bundle
from tasks.store.engine import open_store, writing
from tasks.store.locks import model_lock
from tasks.store.mlflow_client import registry_errors
from tasks.store.models import own_types
from tasks.store.snapshots import keep_snapshot
from tasks.store.unseen import as_trained
from tasks.versions.champion import ChampionInfo, Version, champion, version_of
from tasks.versions.filing import file_version
from tasks.versions.move import Promotion, move_champion
from tasks.versions.partner import set_second_opinion
from tasks.versions.probe import probe

__all__ = [
    "ChampionInfo",
    "Promotion",
    "Registered",
    "Version",
    "champion",
    "file_version",
    "find_registered",
    "move_champion",
    "note_registered",
    "register_version",
    "save_snapshot",
    "set_second_opinion",
    "unseen_rows",
    "version_of",
]

_ATTEMPT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$")


@dataclass(frozen=True)
class Registered:
    """The version that an earlier run of the same attempt registered, with what its gate said then."""

    version: Version
    promote: bool
    ask: bool
    why: str
    champion_version: int | None
    as_of: datetime
    scores: tuple[float | None, float | None] = (None, None)
    """What it and the champion came to on the same rows, in the model's metric."""

    @property
    def compared(self) -> str:
        """Both scores, as far as they are known."""
        shown = [None if score is None else number(score) for score in self.scores]
        if shown[0] is None:
            return ""
        before = f", version {self.champion_version} {shown[1]}" if shown[1] is not None else ""
        return f"{shown[0]}{before}"


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def find_registered(spec: ModelSpec, attempt: str, *, settings: Settings | None = None) -> Registered | None:
    """Return what an earlier run of this attempt came to before it died; None when it registered nothing.

    Whoever carries the attempt on must end it as that run would have: with its model, its gate, its rows.

    Raises:
        RegistryError: when the registry does not answer, or the version cannot be believed: its files are
            others, or the store does not hold their digest as made by this attempt.
    """
    place = settings or Settings()
    found = runs.version_of_attempt(spec.name, attempt, settings=place)
    if found is None:
        return None
    with registry.downloaded(found, settings=place) as (_, manifest):
        gate, before = manifest.gate, manifest.training.get("champion_version")
        return Registered(
            version=found,
            promote=gate.get("outcome") == "promote",
            ask=gate.get("outcome") == "ask",
            why="; ".join(str(reason) for reason in gate.get("reasons", ())) or str(gate.get("outcome")),
            champion_version=None if before is None else int(before),
            as_of=manifest.created,
            scores=(_score(manifest, "metrics", spec), _score(manifest, "champion_metrics", spec)),
        )


def _score(manifest: Manifest, which: str, spec: ModelSpec) -> float | None:
    given = manifest.training.get(which) or {}
    value = given.get(spec.metric)
    return float(value) if isinstance(value, int | float) else None


def served_by(spec: ModelSpec, incumbent: ChampionInfo) -> tuple[ModelSpec, str]:
    """Return the block with the champion's own features, and what differs from it; empty: nothing does."""
    change = spec_change(spec, incumbent.spec).sentence(incumbent.version)
    if change:
        task_logger(__name__).warning("%s: %s", spec.name, change)
    return as_served(spec, incumbent.spec), change


def reading_both(
    spec: ModelSpec, incumbent: ChampionInfo | None, present: Iterable[str] | None = None
) -> ModelSpec:
    """Return the block which also reads what only the champion looks at, as far as it is `present`."""
    return spec if incumbent is None else beside(spec, incumbent.spec, present)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def note_registered(spec: ModelSpec, version: Version, *, settings: Settings | None = None) -> None:
    """Leave in the store what a run that died after it registered this version did not come to note.

    Raises:
        RegistryError: when the version cannot be had whole, or other files stand under its number.
    """
    _note_from_files(version, settings or Settings())
    task_logger(__name__).info("%s: version %d of an earlier run is noted", spec.name, version.number)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def unseen_rows(spec: ModelSpec, version: Version, *, settings: Settings | None = None) -> Trained | None:
    """Return the version as its training left it, from its snapshot; None when its rows cannot be had.

    Raises:
        RegistryError: when the version itself cannot be had whole.
    """
    place = settings or Settings()
    copy = registry.local_copy(version, settings=place, also=own_types(spec))
    scratch = place.work_dir(copy.manifest.attempt) / "resumed"
    scratch.mkdir(exist_ok=True)
    try:
        found = as_trained(spec, copy.manifest, Path(copy.path), scratch, place)
    except RegistryUnavailable:
        raise
    except (RegistryError, KeyError) as err:  # a later version fixes the anchor from its own
        task_logger(__name__).warning("%s: no unseen rows of version %d (%s)", spec.name, version.number, err)
        return None
    task_logger(__name__).info(
        "%s: %d unseen rows of version %d", spec.name, found.holdout_rows, version.number
    )
    return found


@task(retries=2, retry_delay_seconds=2, timeout_seconds=1800, cache_policy=NO_CACHE)
def save_snapshot(dataset: Dataset, spec: ModelSpec, *, settings: Settings | None = None) -> Dataset:
    """Return the dataset at its lasting, immutable place below the artifact root.

    Raises:
        RegistryError: see `tasks.store.snapshots.keep_snapshot`.
    """
    kept = keep_snapshot(dataset, settings=settings)
    task_logger(__name__).info("%s: snapshot %s of %d rows", spec.name, kept.sha256[:12], kept.rows)
    return kept


@task(retries=1, retry_delay_seconds=2, timeout_seconds=1800, cache_policy=NO_CACHE)
def register_version(
    spec: ModelSpec,
    attempt: str,
    trained: Trained,
    evaluated: Evaluated,
    reference: Mapping[str, Any] | str,  # Any: the reference profile as JSON
    snapshot: Dataset,
    decision: Mapping[str, Any],  # Any: JSON
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> Version:
    """Return the registered version of this attempt; the same attempt always gives the same one.

    Its bundle is uploaded, read back, checked against its digests, loaded and re-scored before it becomes a
    version, so a version is never without its files. What it is made of is noted in the store. The champion
    stays where it is.

    Raises:
        RegistryError: when any of this fails; there is no version then.
    """
    place, began = settings or Settings(), time.perf_counter()
    if not _ATTEMPT.match(attempt):
        raise RegistryError(f"attempt {attempt[:40]!r}", "letters, digits and _.:-", model=spec.name)
    also = own_types(spec)
    with model_lock(f"{spec.name}.register", place):
        found = runs.version_of_attempt(spec.name, attempt, settings=place)
        if found is None:
            folder = place.work_dir(attempt) / "bundle"
            with registry_errors("writing the bundle", spec.name):
                manifest = write_bundle(
                    folder,
                    spec,
                    attempt,
                    trained=trained,
                    evaluated=evaluated,
                    reference=reference,
                    snapshot=snapshot,
                    decision=decision,
                    as_of=as_of,
                    also=also,
                    threads=place.threads,
                )
            now = now_or(None)
            found = runs.upload_version(folder, manifest, settings=place, at=now, also=also)
            _note(found, manifest, place)
        else:
            probe(found, place, also, limit_ms=spec.gate.max_latency_ms)
            _note_from_files(found, place)  # the run that registered it may have died before it was noted
    task_logger(__name__).info(
        "%s: version %d (%s) in %.1f s",
        spec.name,
        found.number,
        found.digest[:12],
        time.perf_counter() - began,
    )
    return found


def _note_from_files(version: Version, place: Settings) -> None:
    with registry.downloaded(version, settings=place) as (_, manifest):
        _note(version, manifest, place)


def _note(version: Version, manifest: Manifest, place: Settings) -> None:
    """Keep in the store what the version is made of, and that it is a candidate now."""
    engine, now = open_store(place), now_or(None)
    catalog.note_version(engine, version, manifest, registered_at=now)
    why = lifecycle.Why("retrain", "registered", manifest.attempt, manifest.created)
    with writing(engine, lock=lifecycle.lock_of(version.name)) as connection:
        succession.file(connection, version.name, version.number, FILED["registered"], why)
