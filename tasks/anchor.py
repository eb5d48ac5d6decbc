"""The frozen trusted rows of a model: fixed once, found again, and never learnt from."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.errors import PromotionRefused, RegistryError, WorkflowError
from tasks.core.model.anchoring import choose_anchor
from tasks.core.model.answers import answers_to
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.columns import number_column
from tasks.core.model.guess import weighted_score
from tasks.core.policy.served import SERVING
from tasks.core.results import AnchorRef, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import anchors, ledger, registry
from tasks.store.engine import open_store
from tasks.store.models import own_types, shared_model
from tasks.store.passing import may_pass
from tasks.store.snapshots import keep_snapshot, local_snapshot


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def current_anchor(spec: ModelSpec, *, settings: Settings | None = None) -> AnchorRef | None:
    """Return the anchor that counts, with its keeper; None when the model has none, or the spec wants none.

    The keeper is the version with the best score on these rows that ever served, else the champion. What is
    wrong with the file or the keeper stands in `trouble`, for the gate to refuse on.

    Raises:
        RegistryUnavailable: when the registry, or what keeps the rows, does not answer.
        StoreError: when the store does not answer.
    """
    place = settings or Settings()
    if spec.gate.anchor.rows == 0:
        return None
    row = anchors.current(open_store(place), spec.name)
    if row is None:
        task_logger(__name__).info("%s: no anchor yet", spec.name)
        return None
    path, trouble = "", ""
    keeper: ChampionRef | None = None
    try:
        path = _local(row, place)
        keeper = _keeper(spec, row, place)
    except WorkflowError as err:
        if may_pass(err):
            raise
        trouble = f"{err.found}; {err.todo}" if err.todo else err.found
    found = _ref(row, path, keeper, trouble)
    task_logger(__name__).info(
        "%s: anchor %s of %d rows, fixed with version %d, kept by version %s%s",
        spec.name,
        row.sha256[:12],
        row.rows,
        row.version,
        found.keeper_version or "none",
        f"; {trouble}" if trouble else "",
    )
    return found


@task(retries=1, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def fix_anchor(
    spec: ModelSpec,
    trained: Trained,
    *,
    version: int,
    actor: str,
    reason: str,
    as_of: datetime,
    champion: ChampionRef | None = None,
    renew: bool = False,
    settings: Settings | None = None,
) -> AnchorRef | None:
    """Return the model's anchor, fixed now from the version's holdout where there is none; None: none can be.

    Its rows have every column that the spec names, or a model of this spec could never be judged on them. An
    anchor that stands is left alone, unless `renew`, which is a recorded act: the new revision keeps who
    asked for it and why. What the version scores on the rows is noted for later versions to be held against.

    Args:
        spec: Says how many rows; none of `gate.anchor.rows` makes no anchor.
        trained: The version's model and the rows it has not learnt from.
        version: Its number.
        actor: Who fixes the anchor.
        reason: Why.
        as_of: When.
        champion: The version that served while this one was trained: rows it may have learnt from are left
            out. None for the first version, and for the champion itself.
        renew: Replace what stands.
        settings: This place.

    Raises:
        PromotionRefused: when `renew` and the holdout makes no anchor.
        RegistryError: when the rows cannot be kept.
        StoreError: when the store does not answer.
    """
    place = settings or Settings()
    if spec.gate.anchor.rows == 0:
        return None
    engine, log = open_store(place), task_logger(__name__)
    standing = anchors.current(engine, spec.name)
    if standing is not None and not renew:
        return _ref(standing, standing.path)
    rows, why_none = _chosen(spec, trained, champion)
    if why_none and renew:
        raise PromotionRefused(
            f"version {version} makes no anchor: {why_none}",
            f"at least {spec.gate.min_rows} rows new to the champion, with all columns of the spec",
            "name a version trained by this spec on newer rows, whether it served or not (--version N)",
            model=spec.name,
        )
    if why_none:  # a later version fixes the anchor from its own
        log.info("%s: no anchor fixed, %s", spec.name, why_none)
        return None
    draft = Path(trained.holdout_path).with_name("anchor.parquet")
    kept = keep_snapshot(_written(spec, rows, draft), settings=place)
    score = _score(spec, trained, rows)
    if math.isfinite(score):  # first, so that no crash leaves an anchor without it
        anchors.note_score(engine, spec.name, version, sha256=kept.sha256, score=score)
    row = anchors.fix(
        engine,
        spec.name,
        sha256=kept.sha256,
        path=kept.path,
        rows=kept.rows,
        window=kept.window,
        version=version,
        actor=actor,
        reason=reason,
        at=as_of,
        renew=renew,
    )
    log.info(
        "%s: anchor %s of %d rows in revision %d (%s: %s)",
        *(spec.name, row.sha256[:12], row.rows, row.revision, row.actor, row.reason),
    )
    return _ref(row, row.path)


def _chosen(spec: ModelSpec, trained: Trained, champion: ChampionRef | None) -> tuple[pd.DataFrame, str]:
    """Return the rows to freeze, or why there are none."""
    try:
        holdout = pd.read_parquet(trained.holdout_path)
    except (OSError, ValueError) as err:
        if may_pass(err):
            raise
        return pd.DataFrame(), f"the holdout cannot be read ({type(err).__name__})"
    at, after = spec.source.timestamp, ""
    if champion:
        since = utc(champion.train_end)
        holdout = holdout[holdout[at] >= since] if at in holdout else holdout
        after = f" since {since.isoformat()}, up to when version {champion.version} has learnt"
    rows, why_none = choose_anchor(spec, holdout)
    return rows, f"the holdout has {why_none}{after}" if why_none else ""


def _ref(
    row: anchors.AnchorRow, path: str, keeper: ChampionRef | None = None, trouble: str = ""
) -> AnchorRef:
    return AnchorRef(
        path=path,
        sha256=row.sha256,
        rows=row.rows,
        revision=row.revision,
        fixed_at=row.at,
        fixed_by_version=row.version,
        keeper=keeper,
        keeper_version=keeper.version if keeper else None,
        trouble=trouble,
    )


def _local(row: anchors.AnchorRow, place: Settings) -> str:
    """Return where the rows lie on this machine, in a file of the right digest."""
    todo = "restore them, or renew the anchor with a reason"
    kept = local_snapshot(row.path, row.sha256, place.root / "anchors", place, model=row.model, todo=todo)
    return str(kept)


def _keeper(spec: ModelSpec, row: anchors.AnchorRow, place: Settings) -> ChampionRef | None:
    """Return the version to be held against; None where nothing has ever served.

    Raises:
        RegistryError: when it cannot be had whole.
    """
    best = anchors.best_keeper(open_store(place), spec.name, row.sha256, spec.metric)
    if best is None:
        version = registry.find_champion(spec.name, settings=place)
        digest = _promoted_as(spec.name, version.number, place) if version else None
    else:
        version = registry.find_version(spec.name, best.number, settings=place)
        digest = best.digest
    if version is None:
        return None
    if digest and digest != version.digest:
        raise RegistryError(
            f"version {version.number} with digest {version.digest[:12]}…, on record as {digest[:12]}…",
            "the version that did best on the anchor",
            "restore the registry, or renew the anchor with a reason",
            model=spec.name,
        )
    return registry.local_copy(version, settings=place, also=own_types(spec), vouched=digest).ref


def _promoted_as(name: str, number: int, place: Settings) -> str | None:
    """Return the digest under which the ledger promoted this version last; None when it holds none."""
    rows = [row for row in ledger.history(open_store(place), name) if row.to_version == number]
    digests = [str(row.evidence.get("digest", "")) for row in rows if row.action in SERVING]
    return next((digest for digest in reversed(digests) if digest), None)


def _written(spec: ModelSpec, rows: pd.DataFrame, path: Path) -> Dataset:
    rows.to_parquet(path, index=False)
    times = rows[spec.source.timestamp].dt.floor("us")
    # Half-open, so its end lies just after the newest row.
    window = Window(times.min().to_pydatetime(), (times.max() + pd.Timedelta(microseconds=1)).to_pydatetime())
    return Dataset(str(path), len(rows), hashlib.sha256(path.read_bytes()).hexdigest(), window)


def _score(spec: ModelSpec, trained: Trained, rows: pd.DataFrame) -> float:
    model = shared_model(trained.model_path, sha256=trained.model_sha256 or None, also=own_types(spec))
    weight = spec.gate.weight
    weights = None if weight is None else number_column(rows[weight])
    return weighted_score(spec, answers_to(spec, model, rows), weights)
