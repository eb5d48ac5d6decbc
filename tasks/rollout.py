"""How a version that waits does on live rows: sent back when it is worse, told of in any case."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.errors import RegistryError
from tasks.core.evaluation.scoring import Scored
from tasks.core.policy.canary import CanaryVerdict, judge_canary, next_look
from tasks.core.policy.shadowed import Classes, ShadowReport, report_shadow
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import catalog, exposures, labels, registry
from tasks.store.agreed import serving_now
from tasks.store.engine import open_store
from tasks.store.exposures import Exposure

ACTOR = "monitor"
_KEEP_SHADOWS = timedelta(days=90)
"""Shadow answers are dropped after this where `serving.keep` says nothing else, our choice."""


@dataclass(frozen=True)
class ExposureVerdict:
    """How the newest exposure of a challenger stands; version None where none ever began.

    `outcome`: `exposed`, `returned` (and it still waits; `reason` says why), `ended`, or `nothing`.
    `is_news` is True in the one look that sent the canary back. `canary` and `shadow` are None where
    there is no such exposure.
    """

    outcome: Literal["exposed", "returned", "ended", "nothing"]
    reason: str
    version: int | None = None
    champion: int | None = None
    mode: str = ""
    share: float = 0.0
    since: datetime | None = None
    canary_rows: int = 0
    canary: CanaryVerdict | None = None
    shadow: ShadowReport | None = None
    is_news: bool = False

    @property
    def cause(self) -> str:
        """The cause of the incident of a return; it is over when the outcome is another."""
        return f"canary v{self.version}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the verdict as JSON values."""
        plain = ("outcome", "reason", "version", "champion", "mode", "share", "canary_rows", "is_news")
        return {
            **{name: getattr(self, name) for name in plain},
            "since": self.since.isoformat() if self.since else None,
            "canary": self.canary.summary() if self.canary else None,
            "shadow": self.shadow.summary() if self.shadow else None,
        }

    def sentence(self) -> str:
        """Return the verdict as one line."""
        if self.version is None:
            return self.reason
        how = f"canary of {self.share:.1%}" if self.mode == "canary" else "shadow"
        told = [f"version {self.version} ({how}) {self.outcome}: {self.reason}"]
        if self.shadow is not None and self.shadow.rows:
            told.append(self.shadow.sentence())
        return "; ".join(told)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=900, cache_policy=NO_CACHE)
def judge_exposure(
    spec: ModelSpec, *, as_of: datetime | None = None, dry_run: bool = False, settings: Settings | None = None
) -> ExposureVerdict:
    """Return how the challenger does on live rows, after a canary that is worse beyond chance was sent back.

    Canary and champion are compared on labelled answers of the same time, see `core.policy.canary`; a version
    that waits no more has its exposure ended, also where no app runs. It may be repeated.

    Args:
        spec: The model.
        as_of: The moment to act as if it were; default: now.
        dry_run: Judge, but send nothing back and end nothing.
        settings: This place.

    Raises:
        RegistryError: when the files of either version are not those registered, or it does not answer.
    """
    started, place, moment = time.monotonic(), settings or Settings(), now_or(as_of)
    engine = open_store(place)
    waiting = exposures.waiting_now(engine, spec.name)
    if not dry_run:
        exposures.end_others(engine, spec.name, waiting, actor=ACTOR, at=moment)
        kept = parse_duration(spec.serving.keep) if spec.serving.keep else _KEEP_SHADOWS
        exposures.drop_shadows(engine, spec.name, moment - kept)
    rows = [one for one in exposures.history(engine, spec.name) if one.at <= moment]
    began = next((one for one in reversed(rows) if one.event == "began"), None)
    if began is None:
        return ExposureVerdict("nothing", "no version sees live rows beside the champion")
    last = [one for one in rows if one.version == began.version][-1]
    verdict = _verdict(spec, place, began, last, moment)
    if verdict.canary and verdict.canary.outcome == "return" and last.event == "began" and not dry_run:
        why = verdict.canary.reason
        is_news = exposures.send_back(engine, spec.name, began.version, reason=why, actor=ACTOR, at=moment)
        verdict = replace(verdict, outcome="returned", reason=why, is_news=is_news)
    if verdict.outcome == "returned" and verdict.version != waiting:
        verdict = replace(verdict, outcome="ended")
    task_logger(__name__).info("%s: %s in %.1f s", spec.name, verdict.sentence(), time.monotonic() - started)
    return verdict


def _verdict(
    spec: ModelSpec, place: Settings, began: Exposure, last: Exposure, moment: datetime
) -> ExposureVerdict:
    engine, version = open_store(place), began.version
    champion = serving_now(engine, spec.name)
    end = moment if last.event == "began" else max(last.at, began.at)
    span = Window(began.at, end + timedelta(microseconds=1))
    known = _labels(spec, place, span, moment)
    canary = shadow = None
    answered = 0
    stands: dict[str, Any] = {"returned": "returned", "ended": "ended", "began": "exposed"}
    reason = last.reason if last.event != "began" else f"since {began.at:%Y-%m-%d %H:%M} UTC"
    if began.mode == "canary" and champion is not None and champion != version:
        live = exposures.live_rows(engine, spec.name, span, {version, champion})
        answered = int(((live["version"] == version) & (live["route"] == "canary")).sum())
        canary = _judged(spec, place, live.merge(known, on="prediction_id"), version, champion)
        reason += f"; {canary.reason}" if last.event == "began" else ""
    pairs = exposures.shadow_pairs(engine, spec.name, version, span)
    if len(pairs):
        other = champion if champion not in {None, version} else int(pairs["champion_version"].iloc[-1])
        pairs = pairs[pairs["champion_version"] == other].merge(
            known[["prediction_id", "label"]], on="prediction_id", how="left"
        )
        theirs = _classes(spec, place, int(other or 0))
        shadow = report_shadow(pairs, spec, classes=_classes(spec, place, version), champion_classes=theirs)
    return ExposureVerdict(
        stands[last.event], reason, version, champion, began.mode, began.share, began.at, answered, canary,
        shadow,
    )  # fmt: skip


def _labels(spec: ModelSpec, place: Settings, span: Window, moment: datetime) -> pd.DataFrame:
    """Return label, prediction and score of what was answered in this time, as far as labels are known.

    Events may lie before their request: as far back as a check window and the maturity, no further.
    """
    back = parse_duration(spec.window.check) + parse_duration(spec.label.maturity)
    wide = Window(span.start - back, span.end)
    found = labels.matured(open_store(place), spec.name, wide, as_of=moment)
    return found[["prediction_id", "prediction", "score", "label"]]


def _judged(
    spec: ModelSpec, place: Settings, rows: pd.DataFrame, version: int, champion: int
) -> CanaryVerdict:
    """Return the verdict of the latest look that these labelled answers, in order of time, allow."""
    own = rows[(rows["version"] == version) & (rows["route"] == "canary")]
    theirs = rows[(rows["version"] == champion) & (rows["route"] == "champion")]
    look = next_look(len(own), spec)
    if look is None:
        needed = spec.serving.canary_min_rows
        return CanaryVerdict(
            "undecided", f"{len(own)} labelled canary answers, {needed} are needed",
            canary_rows=len(own), champion_rows=len(theirs), metric=spec.metric,
        )  # fmt: skip
    own = own.head(look.rows)
    theirs = theirs[theirs["served_at"] <= own["served_at"].iloc[-1]]
    scored = {
        number: _scored(part, _classes(spec, place, number))
        for number, part in ((champion, theirs), (version, own))
    }
    return judge_canary(scored[champion], scored[version], spec, look)


def _scored(rows: pd.DataFrame, classes: Classes) -> Scored:
    label, prediction = (rows[name].to_numpy(dtype=object) for name in ("label", "prediction"))
    scores = np.fromiter(rows["score"], dtype=object, count=len(rows)) if classes else None
    return Scored(label, prediction, scores, classes)


def _classes(spec: ModelSpec, place: Settings, number: int) -> Classes:
    """Return the classes of this version in the order of its probabilities; None for a regressor.

    Raises:
        RegistryError: when its files are not those that were made here.
    """
    if spec.task == "regression":
        return None
    version = registry.find_version(spec.name, number, settings=place)
    if not catalog.is_held(open_store(place), version):
        raise RegistryError(
            f"version {number} with files that nobody here made", "a version that this project registered",
            "restore the registry", model=spec.name,
        )  # fmt: skip
    return registry.local_copy(version, settings=place, vouched=version.digest).manifest.classes
