"""A model's health besides score and inputs: service, predictions, groups, budget, and what is overdue."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from sqlalchemy.engine import Engine

from tasks.core.drift.profile import Reference
from tasks.core.errors import DriftError, StoreError
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.health.alarms import Alarm, Health
from tasks.core.health.budget import Budget
from tasks.core.health.burn import Burning
from tasks.core.health.diagnosis import Diagnosis, diagnose
from tasks.core.health.latency import NOT_MEASURED
from tasks.core.health.service import ServiceVerdict, judge_service
from tasks.core.health.shift import ShiftVerdict, judge_shift, scores_of_training, scores_of_windows
from tasks.core.health.slices import EARLIER, SlicesVerdict, apart, judge_slices, past_of
from tasks.core.health.staleness import Freshness, Stale
from tasks.core.health.volume import VolumeVerdict, judge_volume
from tasks.core.records.health import health_markdown
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc
from tasks.log import task_logger
from tasks.pages.note import note
from tasks.settings import Settings
from tasks.store import checks, evidence, service, spent, upkeep
from tasks.store.engine import open_store
from tasks.store.labels import matured
from tasks.store.version import ChampionInfo

__all__ = [
    "Alarm",
    "Health",
    "burning",
    "health",
    "prediction_shift",
    "publish_health",
    "realised_slices",
    "row_volume",
    "service_health",
    "spent_budget",
    "staleness",
]
FIRST_WINDOWS = 3  # of a version, whose answers stand in for a reference without scores; our choice
_MOST_WINDOWS = 5_000
_VOLUME_WINDOWS = 8 * 24 * 7  # eight weeks of hours
_DAY = timedelta(days=1)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=900, cache_policy=NO_CACHE)
def health(
    spec: ModelSpec,
    window: Window,
    incumbent: ChampionInfo | None,
    *,
    as_of: datetime,
    performance: PerformanceVerdict | None = None,
    dry_run: bool = False,
    settings: Settings | None = None,
) -> Health:
    """Return everything that was found out, each part recorded once per window unless it is a dry run.

    What needs labels is about `window`, whose labels have matured; what needs none is about the window of the
    same length that is `label.maturity` newer.

    Args:
        spec: The model.
        window: The newest window whose labels are mature.
        incumbent: The champion; None where there is none.
        as_of: The moment to judge at; nothing later is seen.
        performance: The champion's verdict on the window, for the diagnosis.
        dry_run: Record nothing.
        settings: Where the store is.
    """
    started = time.monotonic()
    version = incumbent.version if incumbent else None
    recent = Window.ending(window.end + parse_duration(spec.label.maturity), spec.window.check)
    answers = prediction_shift(spec, recent, incumbent, settings=settings)
    found = Health(
        service=service_health(spec, recent, settings=settings),
        predictions=answers,
        slices=realised_slices(spec, window, incumbent, as_of=as_of, settings=settings),
        budget=spent_budget(spec, as_of=as_of, settings=settings),
        freshness=Freshness(
            tuple(staleness(spec, as_of=as_of, incumbent=incumbent, running="monitor", settings=settings))
        ),
        diagnosis=_diagnosis(spec, window, recent, answers, performance, as_of, open_store(settings)),
        burning=burning(spec, as_of=as_of, settings=settings),
    )
    if not dry_run:
        _record(spec, window, recent, found, version, as_of, open_store(settings))
    task_logger(__name__).info(
        "%s: health over %s in %.1f s: %s", spec.name, recent, time.monotonic() - started, found.sentence()
    )
    return found


@task(retries=2, retry_delay_seconds=5, timeout_seconds=60, cache_policy=NO_CACHE)
def row_volume(
    spec: ModelSpec,
    window: Window,
    rows: int,
    incumbent: ChampionInfo | None,
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> VolumeVerdict:
    """Return whether the window has about as many rows as those whose data was checked before it."""
    found = checks.recent(
        open_store(settings), spec.name, "data", _VOLUME_WINDOWS, min(window.start, utc(as_of))
    )
    counts = [(check.window, check.summary.get("rows")) for check in found]
    earlier = [(one, int(count)) for one, count in counts if isinstance(count, int) and count > 0]
    trained = incumbent.manifest.training.get("window_rows") if incumbent else None
    share = parse_duration(spec.window.check) / parse_duration(spec.window.training)
    verdict = judge_volume(window, rows, earlier, trained=trained * share if trained else None)
    task_logger(__name__).info("%s: volume %s: %s", spec.name, verdict.outcome, verdict.sentence())
    return verdict


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_health(spec: ModelSpec, found: Health, window: Window) -> str:
    """Return the key of the artifact that says what is wrong with the model, and what is not."""
    text = health_markdown(spec, found)
    return note(spec.name, "health", text, f"health: {found.diagnosis.kind}, window {window}")


def service_health(spec: ModelSpec, window: Window, *, settings: Settings | None = None) -> ServiceVerdict:
    """Return how the app served the model: requests, errors, latency, and the speed of the budget's burn.

    The burn is that at the window's end, so that looking again finds the same; `burning` tells that of now.
    """
    engine, slo = open_store(settings), spec.slo
    took = service.latencies(engine, spec.name, window, limit_ms=slo.p99_ms)
    return judge_service(
        service.counted(engine, spec.name, window),
        {version: one for version, one in took.items() if version != service.ALL},
        slo,
        together=took.get(service.ALL, NOT_MEASURED),
        burns=spent.service(engine, spec, window.end),
        seconds=window.length.total_seconds(),
    )


def burning(spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None) -> Burning:
    """Return whether requests are being lost right now: up to the last minute, not to a window's end."""
    return Burning(spent.service(open_store(settings), spec, utc(as_of).replace(second=0, microsecond=0)))


def prediction_shift(
    spec: ModelSpec, window: Window, incumbent: ChampionInfo | None, *, settings: Settings | None = None
) -> ShiftVerdict:
    """Return whether what the champion says has moved, told without labels."""
    if incumbent is None:
        return ShiftVerdict("undecided", "no champion yet")
    engine, number = open_store(settings), incumbent.version
    said = service.answers(engine, spec.name, window, number, settings=settings)
    reference = _reference(incumbent.reference_path)
    labels = reference.insight.labels if reference is not None and reference.insight else None
    trained = labels.counts if labels is not None and not labels.edges else None
    of_training = None if reference is None else scores_of_training(reference)
    if of_training is not None:
        return judge_shift(spec, said, of_training, trained=trained)
    begun = _begun(spec, window, incumbent, engine, settings)
    if begun is None:
        return judge_shift(spec, said, None, trained=trained)
    early = scores_of_windows(spec, begun)
    return judge_shift(spec, said, early, against=f"its first {FIRST_WINDOWS} windows", trained=trained)


def realised_slices(
    spec: ModelSpec,
    window: Window,
    incumbent: ChampionInfo | None,
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> SlicesVerdict:
    """Return how the champion did group by group (`gate.slices`), and whether its probabilities were right.

    A group is known where its column is among the inputs that were logged; of a sensitive one by its hash.
    """
    if incumbent is None:
        return SlicesVerdict("undecided", "no champion yet")
    engine = open_store(settings)
    rows = matured(engine, spec.name, window, as_of=as_of)
    rows = rows[(rows["version"] == incumbent.version) & (rows["event_time"] >= incumbent.train_end)]
    named = list(spec.gate.slices)
    groups = pd.DataFrame(index=rows["prediction_id"])
    if named and len(rows):
        groups = service.logged_values(engine, spec.name, window, named).reindex(rows["prediction_id"])
    steps = window.length // min(window.length, _DAY)  # longer windows overlap, by days
    before = checks.recent(engine, spec.name, "slices", min(2 * EARLIER * steps, _MOST_WINDOWS), window.start)
    past = past_of([one.summary for one in apart([c for c in before if c.version == incumbent.version])])
    return judge_slices(rows, groups, incumbent.classes, spec, promise=incumbent.promise.value, past=past)


def spent_budget(spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None) -> Budget:
    """Return how much is left of the score's error budget, over windows that do not overlap, newest first."""
    return spent.score(open_store(settings), spec, as_of)


def staleness(
    spec: ModelSpec,
    *,
    as_of: datetime,
    incumbent: ChampionInfo | None = None,
    running: str = "",
    settings: Settings | None = None,
) -> list[Stale]:
    """Return, for everything that should keep happening to a model, whether it is overdue at `as_of`.

    Args:
        spec: The model.
        as_of: Now; what happened later is not seen.
        incumbent: The champion, whose age is judged where `retrain.max_age` limits it.
        running: The flow that asks: that it runs, it knows.
        settings: Where the store is.
    """
    trained = incumbent.manifest.created if incumbent else None
    return upkeep.overdue(open_store(settings), spec, as_of, trained=trained, running=running)


def _diagnosis(
    spec: ModelSpec,
    window: Window,
    recent: Window,
    answers: ShiftVerdict,
    performance: PerformanceVerdict | None,
    as_of: datetime,
    engine: Engine,
) -> Diagnosis:
    """Return what this window's score, inputs, predictions and labels say together."""
    known = evidence.around(engine, spec, window, as_of)
    moved = answers.moved if recent == window else None
    back = 2 + (recent.end - window.start) // min(window.length, _DAY)
    for one in checks.recent(engine, spec.name, "predictions", min(back, _MOST_WINDOWS), as_of):
        overlaps = one.window.start < window.end and window.start < one.window.end
        if overlaps and one.outcome != "undecided" and recent != window:
            moved = bool(moved) or one.outcome == "drift"
    return diagnose(
        performance.outcome if performance else "undecided",
        inputs_moved=known.inputs_moved,
        predictions_moved=known.scores_moved if moved is None else moved,
        labels=performance.labels if performance else None,
    )


def _record(
    spec: ModelSpec,
    window: Window,
    recent: Window,
    found: Health,
    version: int | None,
    as_of: datetime,
    engine: Engine,
) -> None:
    parts: list[
        tuple[checks.Kind, Window, ServiceVerdict | ShiftVerdict | SlicesVerdict | Budget | Freshness]
    ] = [
        ("service", recent, found.service),
        ("predictions", recent, found.predictions),
        ("slices", window, found.slices),
        ("budget", recent, found.budget),
        ("freshness", recent, found.freshness),
    ]
    extra = {"slices": {"diagnosis": found.diagnosis.kind, "diagnosis_why": found.diagnosis.why}}
    for kind, span, part in parts:
        if service.settled(engine, spec.name, kind, span):
            task_logger(__name__).info("%s: %s over %s stands: its predictions moved", spec.name, kind, span)
            continue
        checks.record(
            engine,
            model=spec.name,
            kind=kind,
            window=span,
            version=version,
            outcome=part.outcome,
            summary={**part.summary(), **extra.get(kind, {}), "sentence": part.sentence()},
            run_id=str(flow_run.id) if flow_run.id else None,
            at=as_of,
        )


def _begun(
    spec: ModelSpec, window: Window, incumbent: ChampionInfo, engine: Engine, settings: Settings | None
) -> pd.DataFrame | None:
    """Return what the champion said in its first windows; None where they are not over, or cannot be read."""
    number = incumbent.version
    try:
        first = service.first_event(engine, spec.name, number, since=incumbent.train_end, settings=settings)
        begun = None if first is None else Window(first, first + FIRST_WINDOWS * window.length)
        if begun is None or begun.end > window.start:
            return None
        return service.answers(engine, spec.name, begun, number, settings=settings)
    except StoreError as err:
        task_logger(__name__).warning("predictions are not compared with the first ones: %s", err)
        return None


def _reference(path: str) -> Reference | None:
    """Return the champion's reference; what is wrong with it is told by the drift check."""
    try:
        return Reference.from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, DriftError) as err:
        task_logger(__name__).warning("predictions are not compared with those of training: %s", err)
        return None
