"""What dead processes left behind: shown, and put away only by request and only when older than a day."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tasks.core.errors import WorkflowError
from tasks.core.model.bundle import MANIFEST
from tasks.core.window import utc
from tasks.history.answer import Answer, table
from tasks.history.backfill import registered
from tasks.settings import Settings
from tasks.store import claims, leases
from tasks.store.engine import open_store, reading
from tasks.store.schema import claims as claims_table

if TYPE_CHECKING:
    from mlflow import MlflowClient

AGE = timedelta(days=1)
"""What is younger may belong to a process that lives: our choice, four times the longest step of a flow."""


@dataclass(frozen=True)
class Remnant:
    """One thing that a dead process left, since when, and what would become of it; `away` does that."""

    kind: str
    what: str
    since: datetime
    todo: str
    away: Callable[[], object] | None = None


def clean_up(model: str, settings: Settings, *, now: datetime, apply: bool = False) -> Answer:
    """Return what was left behind; with `apply` it is put away, except what only a person can mend.

    Nothing that serves or served is touched: runs are marked as ended, leases and claims given back, copies
    that nobody finished are deleted. A version without files is told, never deleted.

    Raises:
        RegistryError: when the registry does not answer.
    """
    old = utc(now) - AGE
    found = [one for one in _remnants(model, settings, utc(now)) if one.since < old]
    done = [_put_away(one, model) if apply else one.todo for one in found]
    data = [
        {"kind": one.kind, "what": one.what, "since": one.since, "done" if apply else "todo": became}
        for one, became in zip(found, done, strict=True)
    ]
    if not found:
        return Answer(data, (f"{model}: nothing was left behind for longer than a day",))
    rows = [[one.kind, one.what, one.since, became] for one, became in zip(found, done, strict=True)]
    lines = table(["kind", "what", "since", "done" if apply else "would be"], rows)
    if not apply:
        lines += ["", "nothing was changed; --apply does it"]
    return Answer(data, tuple(lines))


def _remnants(model: str, settings: Settings, now: datetime) -> Iterator[Remnant]:
    from tasks.store.mlflow_client import open_client, registry_errors

    client = open_client(settings)
    with registry_errors("looking for what was left behind", model):
        yield from _runs(client, model, now)
        yield from _pending(client, model)
    yield from _without_files(model, settings)
    yield from _leases(settings, now)
    yield from _claims(model, settings, now)
    yield from _copies(settings)


def _runs(client: MlflowClient, model: str, now: datetime) -> Iterator[Remnant]:
    from tasks.store.registry import TAG_ATTEMPT

    before, experiments = int((now - AGE).timestamp() * 1000), _experiments(client, model)
    if not experiments:  # MLflow would look through all of them
        return
    asked = f"attributes.status = 'RUNNING' and attributes.start_time < {before}"
    for run in _pages(lambda token: client.search_runs(experiments, asked, page_token=token)):
        if TAG_ATTEMPT not in run.data.tags:
            continue  # somebody else's
        yield Remnant(
            "run",
            f"{run.info.run_name} ({run.info.run_id})",
            _moment(run.info.start_time),
            "marked as KILLED",
            lambda run=run: client.set_terminated(run.info.run_id, "KILLED"),
        )


def _pending(client: MlflowClient, model: str) -> Iterator[Remnant]:
    experiments = _experiments(client, model)
    if not experiments:
        return
    for one in _pages(lambda token: client.search_logged_models(experiments, page_token=token)):
        if str(one.status) == "PENDING" or getattr(one.status, "value", "") == "PENDING":
            yield Remnant(
                "logged model",
                f"{one.name} ({one.model_id})",
                _moment(one.creation_timestamp),
                "marked as FAILED",
                lambda one=one: client.finalize_logged_model(one.model_id, "FAILED"),
            )


def _without_files(model: str, settings: Settings) -> Iterator[Remnant]:
    for version, since in registered(model, settings):
        if not _has_files(version.source):
            yield Remnant(
                "version",
                f"{version.number} without {MANIFEST}",
                since,
                "left to a person: restore the artifact, or never let it serve",
            )


def _leases(settings: Settings, now: datetime) -> Iterator[Remnant]:
    engine = open_store(settings)
    for lease in leases.expired(engine, now):
        yield Remnant(
            "lease",
            f"{lease.name} of {lease.owner}",
            lease.expires_at,
            "given back",
            lambda lease=lease: leases.release(engine, lease),
        )


def _claims(model: str, settings: Settings, now: datetime) -> Iterator[Remnant]:
    engine, table_ = open_store(settings), claims_table.c
    over = (table_.model == model, table_.state == "running", table_.lease_until < now)
    with reading(engine) as connection:
        rows = connection.execute(sa.select(claims_table).where(*over)).all()
    for row in rows:
        yield Remnant(
            "claim",
            f"{row.decision_id} of {row.owner}",
            row.lease_until,
            "given up, so that it can be carried out again",
            lambda row=row: claims.release(engine, row.decision_id, row.owner),
        )


def _copies(settings: Settings) -> Iterator[Remnant]:
    places = [(settings.root / "versions", ".part-*")]
    if "://" not in settings.artifact_root:
        places.append((Path(settings.artifact_root), "**/.*.part"))
    for folder, pattern in places:
        for path in sorted(folder.glob(pattern)):
            yield Remnant(
                "copy",
                str(path.relative_to(settings.root) if path.is_relative_to(settings.root) else path.name),
                datetime.fromtimestamp(path.stat().st_mtime, UTC),
                "deleted",
                lambda path=path: _delete(path),
            )


def _put_away(one: Remnant, model: str) -> str:
    from tasks.store.mlflow_client import registry_errors

    if one.away is None:
        return one.todo
    try:
        with registry_errors(f"putting away a {one.kind}", model):
            one.away()
    except WorkflowError as err:  # the others are put away all the same
        return f"not done: {err.found}"
    return one.todo


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _has_files(source: str) -> bool:
    local = Path(source.removeprefix("file://"))
    if "://" not in source or source.startswith("file://"):
        return (local / MANIFEST).is_file()
    import mlflow

    from tasks.store.mlflow_client import registry_errors

    with registry_errors("looking for a version's files"):
        return any(
            one.path.endswith(MANIFEST) for one in mlflow.artifacts.list_artifacts(artifact_uri=source)
        )


def _experiments(client: MlflowClient, model: str) -> list[str]:
    known = client.get_experiment_by_name(model)
    return [known.experiment_id] if known else []


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:  # Any: what MLflow lists
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
