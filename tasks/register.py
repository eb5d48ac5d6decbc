"""Versions and champions: registered whole, moved in one place, believed only when their files match."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.model.bundle import plain
from tasks.core.results import Evaluated, Trained
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import ledger, moves, registry, runs
from tasks.store.bundles import write_bundle
from tasks.store.locks import file_lock
from tasks.store.mlflow_client import registry_errors
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
_ABSENT = "no champion"
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


@dataclass(frozen=True)
class Registered:
    """The version that an earlier run of the same attempt registered, with what its gate said then."""

    version: Version
    promote: bool
    why: str
    champion_version: int | None
    as_of: datetime


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def find_registered(spec: ModelSpec, attempt: str, *, settings: Settings | None = None) -> Registered | None:
    """Return what an earlier run of this attempt came to before it died; None when it registered nothing.

    Whoever carries the attempt on must end it as that run would have: with its model, its gate, its rows.

    Raises:
        RegistryError: when the registry does not answer or the version cannot be believed.
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
            why="; ".join(str(reason) for reason in gate.get("reasons", ())) or str(gate.get("outcome")),
            champion_version=None if before is None else int(before),
            as_of=manifest.created,
        )


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
    version, so a version is never without its files. The champion stays where it is.

    Raises:
        RegistryError: when any of this fails; there is no version then.
    """
    place, began = settings or Settings(), time.perf_counter()
    if not _ATTEMPT.match(attempt):
        raise RegistryError(f"attempt {attempt[:40]!r}", "letters, digits and _.:-", model=spec.name)
    also = own_types(spec)
    with _lock(f"{spec.name}.register", place):
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
                )
            found = runs.upload_version(folder, manifest, settings=place, also=also)
        else:
            _check(found, place, also)
    task_logger(__name__).info(
        "%s: version %d (%s) in %.1f s",
        spec.name,
        found.number,
        found.digest[:12],
        time.perf_counter() - began,
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
    expected: int | Literal["unset"] | None = UNSET,
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
    with _lock(f"{name}.move", place):
        stored = registry.find_version(name, version.number, settings=place)
        if stored.digest != version.digest:
            raise RegistryError(
                f"version {version.number} with another digest", f"{version.digest[:12]}…", model=name
            )
        evidence = _check(stored, place, own_types(spec))
        moves.finish_pending(name, settings=place)
        serving = registry.find_champion(name, settings=place)
        from_version = (serving.number if serving else None) if expected == UNSET else expected
        wanted = moves.Move(
            decision_id, action, from_version, version.number, actor, moves.short(reason), as_of, evidence
        )
        row = moves.carry_out(wanted, name, settings=place)
    task_logger(__name__).info("%s: %s version %d by %s", name, row.action, version.number, row.actor)
    return Promotion(
        name, row.from_version, version.number, row.action, row.decision_id, row.actor, row.reason, row.at
    )


def _again_unless_absent(task_: object, run: object, state: Any) -> bool:  # Any: prefect's own state type
    """Retry faults of the registry, not its answer that there is no champion."""
    del task_, run
    found = state.result(raise_on_failure=False)
    return not (isinstance(found, RegistryError) and found.found == _ABSENT)


@task(
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=_again_unless_absent,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def champion(
    name: str, *, required: bool = False, also: Iterable[str] = (), settings: Settings | None = None
) -> ChampionInfo | None:
    """Return the version that serves, with a verified local copy; None only when there is none.

    "None" is believed only when MLflow says so explicitly and the ledger never promoted one.

    Args:
        name: the registered model.
        required: Raise instead of returning None.
        also: further classes to accept (`tasks.store.models.own_types`). Those of the version's own spec are
            accepted when the ledger vouches for the version's digest.
        settings: this place.

    Raises:
        RegistryError: when the registry or the ledger does not answer, they disagree, a file is missing or
            damaged, or `required` and there is none.
    """
    place = settings or Settings()
    vouched = _vouched(name, place)
    found = registry.champion(name, settings=place, also=also, vouched=vouched)
    if found is None and required:
        raise RegistryError(_ABSENT, "a promoted version", "run the retrain flow first", model=name)
    task_logger(__name__).info("%s: champion is %s", name, f"version {found.version}" if found else "none")
    return found


def version_of(name: str, number: int, *, settings: Settings | None = None) -> Version:
    """Return the registered version of this number; see `tasks.store.registry.find_version`."""
    return registry.find_version(name, number, settings=settings)


def _vouched(name: str, place: Settings) -> str | None:
    """Return the digest of the version that registry and ledger agree to serve; None when both say none."""
    for is_last in (False, True):
        serving = registry.find_champion(name, settings=place)
        row = moves.last_move(name, settings=place)
        fault = _disagreement(serving, row)
        if fault is None:
            return serving.digest if serving else None
        if not is_last:  # a move may have been interrupted, or be under way
            with _lock(f"{name}.move", place):
                moves.finish_pending(name, settings=place)
    raise RegistryError(
        str(fault),
        "registry and ledger to agree on which version serves",
        "promote the version that should serve, with a reason, or restore the registry",
        model=name,
    )


def _disagreement(serving: Version | None, row: ledger.LedgerRow | None) -> str | None:
    number, promoted = (serving.number if serving else None), (row.to_version if row else None)
    if number != promoted:
        return f"version {number or 'none'} serving while the ledger says {promoted or 'none'}"
    digest = str(row.evidence.get("digest", "")) if row else ""
    if serving and digest and digest != serving.digest:
        return f"version {number} with digest {serving.digest[:12]}…, promoted as {digest[:12]}…"
    return None


def _check(version: Version, place: Settings, also: Iterable[str]) -> dict[str, Any]:  # Any: JSON
    """Return what the ledger keeps of a version that was downloaded, verified, loaded and re-scored."""
    with registry.downloaded(version, settings=place) as (folder, manifest):
        registry.load_checked(folder, manifest, also=also)
        return {
            "digest": version.digest,
            "run_id": version.run_id,
            "snapshot": manifest.snapshot.get("sha256"),
            "commit": manifest.code.get("commit"),
            "dirty": manifest.code.get("dirty"),
            "train_window": str(manifest.train_window),
            "promise": plain(manifest.promise),
            "gate": dict(manifest.gate),
        }


@contextmanager
def _lock(name: str, place: Settings) -> Iterator[None]:
    """Hold this model's lock; across machines the claim of the decision does the same."""
    with file_lock(place.root / "locks" / f"{name}.lock"):
        yield
