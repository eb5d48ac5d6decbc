"""Versions and champions: registered whole, moved in one place, believed only when their files match.

The tasks here need of a training and an evaluation what `TrainedLike` and `EvaluatedLike` in
`tasks.store.bundles` name, whatever their types.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, overload

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import ledger, moves, registry, runs
from tasks.store.bundles import EvaluatedLike, TrainedLike, write_bundle
from tasks.store.engine import open_store
from tasks.store.locks import file_lock
from tasks.store.models import own_types
from tasks.store.registry import ChampionInfo, Version
from tasks.store.snapshots import keep_snapshot

__all__ = [
    "ChampionInfo",
    "Promotion",
    "Version",
    "champion",
    "move_champion",
    "register_version",
    "save_snapshot",
    "version_of",
]

UNSET: Literal["unset"] = "unset"
_ATTEMPT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$")


@dataclass(frozen=True)
class Promotion:
    """A champion that moved, as the ledger has it."""

    name: str
    from_version: int | None
    to_version: int
    action: str
    decision_id: str
    actor: str
    reason: str
    at: datetime


def _again_unless_refused(task_: object, run: object, state: Any) -> bool:  # Any: prefect's own state type
    """Retry faults of the registry, never a refusal: asking again does not change an answer."""
    del task_, run
    return not isinstance(state.result(raise_on_failure=False), PromotionRefused)


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
    trained: TrainedLike,
    evaluated: EvaluatedLike,
    reference: Mapping[str, Any] | str,  # Any: the reference profile as JSON
    snapshot: Dataset,
    decision: Mapping[str, Any],  # Any: JSON
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> Version:
    """Return the registered version of this attempt; the same attempt always gives the same one.

    Its bundle is uploaded, read back, checked against its digests, loaded and re-scored before it becomes a
    version, so a version is never without its files. The champion stays where it is.

    Raises:
        RegistryError: when any of this fails; there is no version then.
    """
    place, began = settings or Settings(), time.perf_counter()
    if not _ATTEMPT.match(attempt):
        raise RegistryError(f"attempt {attempt[:40]!r}", "letters, digits and _.:-", model=spec.name)
    also = own_types(spec)
    with _lock(spec.name, place):
        found = runs.version_of_attempt(spec.name, attempt, settings=place)
        if found is None:
            folder = place.work_dir(attempt) / "bundle"
            with registry_errors_of(spec):
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
                )
            found = runs.upload_version(folder, manifest, settings=place, also=also)
        else:
            _check(found, place, also)
    task_logger(__name__).info(
        "%s: version %d (%s) in %.1f s", spec.name, found.number, found.digest[:12], time.perf_counter() - began
    )
    return found


@task(
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=_again_unless_refused,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def move_champion(
    spec: ModelSpec,
    version: Version,
    *,
    actor: str,
    reason: str,
    decision_id: str,
    as_of: datetime,
    expected: int | None | Literal["unset"] = UNSET,
    action: Literal["promoted", "rolled_back"] = "promoted",
    settings: Settings | None = None,
) -> Promotion:
    """Return the promotion after the champion alias points at this version and the ledger says so.

    The version is downloaded, checked, loaded and re-scored first. The same decision moves at most once.
    Nothing else in the project moves the aliases `champion` and `previous`.

    Args:
        spec: the model.
        version: what shall serve.
        actor: who decided: "gate", or a person.
        reason: why; kept in the ledger.
        decision_id: identity of the decision; one outcome per id.
        as_of: when it counts as done.
        expected: number of the version the decision was made against (None: there was no champion). When
            another one serves by now the move is refused. Default: whatever serves.
        action: what the ledger calls it.
        settings: this place.

    Raises:
        PromotionRefused: when another version serves than `expected`, or this one serves already.
        RegistryError: when the version cannot be believed, or the registry or ledger does not answer. What
            was moved by then is finished, or dropped, by the next call.
    """
    place, name = settings or Settings(), spec.name
    if version.name != name:
        raise RegistryError(f"a version of {version.name}", f"a version of {name}", model=name)
    with _lock(name, place):
        stored = registry.find_version(name, version.number, settings=place)
        if stored.digest != version.digest:
            raise RegistryError(
                f"version {version.number} with another digest", f"{version.digest[:12]}…", model=name
            )
        evidence = _check(stored, place, own_types(spec))
        moves.finish_pending(name, settings=place)
        done = ledger.find(open_store(place), name, decision_id)
        serving = registry.find_champion(name, settings=place)
        if done is None and serving is not None and serving.number == version.number:
            raise PromotionRefused(f"version {version.number} serving already", "another version", model=name)
        from_version = (serving.number if serving else None) if expected == UNSET else expected
        wanted = moves.Move(
            decision_id, action, from_version, version.number, actor, moves.short(reason), as_of, evidence
        )
        row = moves.carry_out(wanted, stored, settings=place)
    task_logger(__name__).info("%s: %s version %d by %s", name, row.action, version.number, row.actor)
    return Promotion(
        name, row.from_version, version.number, row.action, row.decision_id, row.actor, row.reason, row.at
    )


@overload
def _champion(name: str, *, required: Literal[True], settings: Settings | None = ...) -> ChampionInfo: ...
@overload
def _champion(
    name: str, *, required: bool = ..., settings: Settings | None = ...
) -> ChampionInfo | None: ...
def _champion(
    name: str, *, required: bool = False, also: Iterable[str] = (), settings: Settings | None = None
) -> ChampionInfo | None:
    """Return the version that serves, with a verified local copy; None only when there is none.

    "None" is believed only when MLflow says so explicitly and the ledger never promoted one.

    Args:
        name: the registered model.
        required: Raise instead of returning None.
        also: further classes to accept, see `tasks.store.models.own_types`.
        settings: this place.

    Raises:
        RegistryError: when the registry or the ledger does not answer, they disagree, a file is missing or
            damaged, or `required` and there is none.
    """
    place = settings or Settings()
    found = registry.champion(name, settings=place, also=also)
    _agree(name, found, place)
    if found is None and required:
        raise RegistryError("no champion", "a promoted version", "run the retrain flow first", model=name)
    task_logger(__name__).info("%s: champion is %s", name, f"version {found.version}" if found else "none")
    return found


champion = task(
    _champion, name="champion", retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE
)
