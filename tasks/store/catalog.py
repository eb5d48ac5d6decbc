"""What is known of every registered version, kept in the store: history and trust need no registry."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.errors import RegistryError
from tasks.core.window import utc
from tasks.store.engine import insert_new, reading, writing
from tasks.store.schema import plain, promotions
from tasks.store.schema_versions import bundles, versions

if TYPE_CHECKING:
    from tasks.core.model.bundle import Manifest
    from tasks.store.version import Version


@dataclass(frozen=True)
class VersionFacts:
    """One registered version as its manifest describes it; None stands for what was not known.

    `created` is the moment it was trained as of, `registered_at` that by the clock. `snapshot` has path,
    sha256, rows and keys (the digest of the row keys it was fitted on), `gate` the whole decision of the gate
    and `params` the training's record: `params` of the estimator, `metrics`, `champion_metrics`, row counts.
    Scores follow the scorer convention, larger is better. `dirty`: files differed from `git_commit`.
    """

    model: str
    number: int
    digest: str
    run_id: str
    attempt: str
    decision_id: str
    cause: str
    created: datetime
    registered_at: datetime
    git_commit: str | None
    dirty: bool | None
    lock_sha256: str | None
    image: str | None
    snapshot: dict[str, Any]  # Any: JSON, as in `gate` and `params`
    window_start: datetime
    window_end: datetime
    cut: datetime
    metric: str
    promise: float | None
    promise_low: float | None
    promise_high: float | None
    gate: dict[str, Any]
    champion_version: int | None
    anchor_sha256: str | None
    anchor_score: float | None
    params: dict[str, Any]

    def score(self, metric: str) -> float | None:
        """Return the score of this metric on rows it had not learnt from; None where it was not measured."""
        if metric == self.metric and self.promise is not None:
            return self.promise
        found = (self.params.get("metrics") or {}).get(metric)
        return None if found is None else float(found)


def note_version(
    engine: Engine,
    version: Version,
    manifest: Manifest,
    *,
    registered_at: datetime,
    image: str | None = None,
    anchor_sha256: str | None = None,
    anchor_score: float | None = None,
) -> VersionFacts:
    """Return what stands about the version, written now or by an earlier call.

    What is not given besides is taken from the manifest.

    Raises:
        RegistryError: when other files stand under this number.
    """
    seen_sha256, seen_score = _anchor_seen(manifest)
    row = {
        **_made(version, manifest),
        "image": image or manifest.code.get("image"),
        "anchor_sha256": anchor_sha256 or seen_sha256,
        "anchor_score": plain(anchor_score if anchor_sha256 else seen_score),
        "registered_at": utc(registered_at),
    }
    with writing(engine) as connection:
        insert_new(connection, versions, [row])
        stands = _facts(connection, version.name, version.number)[0]
    if stands.digest != version.digest:
        raise RegistryError(
            f"version {version.number} with digest {version.digest[:12]}…",
            f"{stands.digest[:12]}…, which was registered under this number",
            "restore the registry that belongs to this store",
            model=version.name,
        )
    return stands


def note_bundle(engine: Engine, model: str, attempt: str, digest: str, *, at: datetime) -> None:
    """Keep that this attempt made files of this digest; call it before a version of them exists.

    Who can write the registry can give a version any tag. What stands here only this project wrote.
    """
    row = {"model": model, "attempt": attempt, "digest": digest, "at": utc(at)}
    with writing(engine) as connection:
        insert_new(connection, bundles, [row])


def is_held(engine: Engine, version: Version) -> bool:
    """Tell whether the store vouches that these are the files which were made here under this number.

    What an attempt made counts, and what the ledger holds for the number: that alone vouches for versions of
    releases that kept no bundles. Facts alone do not, because `backfill` reads them from the registry; but
    they contradict.
    """
    told = (promotions.c.model == version.name, promotions.c.to_version == version.number)
    with reading(engine) as connection:
        facts = _facts(connection, version.name, version.number)
        if facts and facts[0].digest != version.digest:
            return False
        if known := _digests(connection, *told):
            return version.digest in known
        made = (bundles.c.model == version.name, bundles.c.digest == version.digest)
        return connection.execute(sa.select(bundles.c.id).where(*made).limit(1)).first() is not None


def held_of_attempt(engine: Engine, model: str, attempt: str) -> set[str]:
    """Return the digests of the files that this attempt made, whether or not they became a version."""
    made = sa.select(bundles.c.digest).where(bundles.c.model == model, bundles.c.attempt == attempt)
    ended = (promotions.c.model == model, promotions.c.decision_id == attempt)
    with reading(engine) as connection:
        return {*connection.execute(made).scalars(), *_digests(connection, *ended)}


def ledger_digests(engine: Engine, model: str, number: int) -> set[str]:
    """Return the digests that the ledger holds for this version; empty where it says nothing of its files."""
    with reading(engine) as connection:
        return _digests(connection, promotions.c.model == model, promotions.c.to_version == number)


def version_facts(engine: Engine, model: str, number: int) -> VersionFacts | None:
    """Return what is known of one version; None where nothing is."""
    with reading(engine) as connection:
        return next(iter(_facts(connection, model, number)), None)


def all_facts(engine: Engine, model: str) -> list[VersionFacts]:
    """Return what is known of every version of the model, by rising number."""
    with reading(engine) as connection:
        return _facts(connection, model)


def model_names(engine: Engine) -> list[str]:
    """Return every model that a version or a row of the ledger is known of, in order."""
    asked = sa.union(sa.select(versions.c.model), sa.select(promotions.c.model))
    with reading(engine) as connection:
        return sorted(connection.execute(asked).scalars())


def _facts(connection: Connection, model: str, number: int | None = None) -> list[VersionFacts]:
    asked = sa.select(versions).where(versions.c.model == model).order_by(versions.c.number)
    if number is not None:
        asked = asked.where(versions.c.number == number)
    names = [one.name for one in fields(VersionFacts)]
    return [
        VersionFacts(**{name: row[name] for name in names}) for row in connection.execute(asked).mappings()
    ]


def _digests(connection: Connection, *rows: sa.ColumnElement[bool]) -> set[str]:
    told = connection.execute(sa.select(promotions.c.evidence).where(*rows)).scalars()
    return {str(evidence["digest"]) for evidence in told if evidence and evidence.get("digest")}


def _anchor_seen(manifest: Manifest) -> tuple[str | None, float | None]:
    """Return digest and score of the frozen rows that the version was judged on; None where on none."""
    for record in (
        manifest.training,
        {f"anchor_{key}": v for key, v in (manifest.gate.get("anchor") or {}).items()},
    ):
        if record.get("anchor_sha256"):
            return str(record["anchor_sha256"]), record.get("anchor_score")
    return None, None


def _made(version: Version, manifest: Manifest) -> dict[str, Any]:  # Any: column values
    training, code = manifest.training, manifest.code
    before = training.get("champion_version")
    keys = training.get("train_keys_sha256")
    snapshot = {name: manifest.snapshot.get(name) for name in ("path", "sha256", "rows")}
    return {
        "model": version.name,
        "number": version.number,
        "digest": version.digest,
        "run_id": version.run_id,
        "attempt": manifest.attempt,
        "decision_id": manifest.decision_id,
        "cause": str(manifest.decision.get("cause") or ""),
        "created": utc(manifest.created),
        "git_commit": code.get("commit"),
        "dirty": code.get("dirty"),
        "lock_sha256": code.get("lock_sha256"),
        "snapshot": plain({**snapshot, "keys": keys}),
        "window_start": manifest.train_window.start,
        "window_end": manifest.train_window.end,
        "cut": utc(manifest.cut),
        "metric": manifest.promise.metric,
        "promise": manifest.promise.value,
        "promise_low": manifest.promise.low,
        "promise_high": manifest.promise.high,
        "gate": plain(manifest.gate),
        "champion_version": None if before is None else int(before),
        "params": plain(dict(training)),
    }
