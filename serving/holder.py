"""The version that answers: taken whole from the registry, swapped in one step, never replaced by a worse."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serving.request import RowChecker
from serving.scoring import PairScorer, Scorer, rows_of, scorer_for
from tasks.core.errors import RegistryError, WorkflowError
from tasks.core.model.bundle import GOLDEN, Manifest
from tasks.core.model.golden import Answers, difference
from tasks.core.model.second_opinion import Answering, why_no_mean
from tasks.core.policy.partners import ServingPair, pair_text
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.agreed import agreed_champion, former_champion, serving_pair_now
from tasks.store.engine import open_store
from tasks.store.models import own_types
from tasks.store.version import Version, spec_in

_LOOK_AT_REGISTRY_SECONDS = 30.0
"""The ledger is asked on every look, the registry too at least this often: our choice, it costs 30 ms."""


@dataclass(frozen=True)
class Served:
    """One version, loaded: everything an answer needs, so that a swap is one assignment.

    With a `partner` the mean of both is the answer, and `scorer` gives the champion's own half.

    `golden` has the features of its golden rows (no answers), as they stand in the bundle. `warning` says
    what a person should know although the version may serve.
    """

    name: str
    version: int
    digest: str
    model: Any  # Any: a fitted scikit-learn pipeline
    spec: ModelSpec
    manifest: Manifest
    checker: RowChecker
    scorer: Scorer
    golden: pd.DataFrame
    warning: str = ""
    partner: Partner | None = None

    @property
    def classes(self) -> tuple[Any, ...] | None:  # Any: labels may be text, whole numbers or booleans
        """The labels in the order of the probabilities; None for a regressor."""
        return self.manifest.classes

    def __str__(self) -> str:
        """Return it as people read it: "version 12 with version 7"."""
        return pair_text(self.version, self.partner.version if self.partner else None)

    @property
    def answering(self) -> Answering:
        """What it takes and gives."""
        features, known = self.spec.features, self.scorer.said(rows_of(self.golden.head(1), self.spec))
        return Answering(
            frozenset(features.numeric),
            frozenset(features.categorical),
            self.classes,
            known.probabilities is not None,
        )

    def is_well(self) -> bool:
        """Return whether it still answers a row that it is known to answer."""
        try:
            self.scorer.answers(rows_of(self.golden.head(1), self.spec))
        except Exception:
            return False
        return True


@dataclass(frozen=True)
class Partner:
    """A former champion that has half the vote, and what gives the mean."""

    served: Served
    scorer: PairScorer

    @property
    def version(self) -> int:
        """Its number."""
        return self.served.version


class Holder:
    """Holds the champion of one model; `current` may be read from any thread at any time.

    Whatever goes wrong in `refresh`, the version that answered before goes on answering, and `trouble` says
    what is wrong. A partner that the ledger names and that cannot be had or does not answer leaves the
    champion alone, and `partner_trouble` says why; it is tried again from time to time.
    """

    def __init__(self, name: str, settings: Settings):
        self.name = name
        self.current: Served | None = None
        self.trouble = "not looked yet"
        self.partner_trouble = ""
        self.partner_failures = 0  # requests that the champion answered alone because its partner did not
        self.swaps = 0
        self._partner: int | None = None  # as the ledger had it at the last look
        self._partner_tried = -_LOOK_AT_REGISTRY_SECONDS
        self._settings = settings
        self._looked = -_LOOK_AT_REGISTRY_SECONDS
        self._lock = threading.Lock()

    @property
    def warning(self) -> str:
        """What a person should know about the version that answers; empty where there is nothing."""
        own = self.current.warning if self.current else ""
        return "; ".join(text for text in (own, self.partner_trouble) if text)

    def refresh(self) -> bool:
        """Return whether another version answers now; safe to call from several threads."""
        with self._lock:
            try:
                return self._refresh()
            except WorkflowError as err:
                self.trouble = str(err)
            except Exception as err:  # a look must never end the app: the last good one serves on
                self.trouble = f"looking up the champion: {type(err).__name__}"
            return False

    def partner_failed(self, served: Served, err: Exception) -> None:
        """Count a request that only the champion could answer; a partner that is not well is asked no more.

        Where the partner still answers a row that it is known to answer, the request's rows are the reason.
        """
        self.partner_failures += 1
        partner = served.partner
        if partner is None or partner.served.is_well():
            return
        if not self._lock.acquire(
            blocking=False
        ):  # a look is under way, which may take seconds: the next one
            return
        try:
            if self.current is served:
                self.current = replace(served, partner=None)
                self._partner_tried = time.monotonic()
                self.partner_trouble = _alone(served.version, partner.version, type(err).__name__)
        finally:
            self._lock.release()

    def _refresh(self) -> bool:
        pair = serving_pair_now(open_store(self._settings), self.name)
        swapped = []
        try:
            swapped.append(self._refresh_champion(pair))
        finally:  # a partner comes and leaves although the registry does not answer
            swapped.append(self._refresh_partner(pair))
        return any(swapped)

    def _refresh_champion(self, pair: ServingPair) -> bool:
        held, now = self.current, time.monotonic()
        is_due = now - self._looked >= _LOOK_AT_REGISTRY_SECONDS or bool(self.trouble)
        if held and not is_due and pair.champion == held.version:
            return False
        found = agreed_champion(self.name, self._settings)
        self._looked = now
        if found is None:
            self.trouble = "no champion yet: run the retrain flow"
            return False
        if held and (held.version, held.digest) == (found.number, found.digest):
            self.trouble = ""
            return False
        # The ledger names this digest, so the bundle's spec is ours, and so are the classes it names.
        self.current = take(found, self._settings)
        self.trouble, self.swaps = "", self.swaps + 1
        return True

    def _refresh_partner(self, pair: ServingPair) -> bool:
        """Take or leave the partner that the ledger names beside the version that answers."""
        held, now = self.current, time.monotonic()
        if held is None or pair.champion != held.version:
            return False
        if pair.partner == self._partner:
            stands = held.partner is not None or pair.partner is None
            waits = self.partner_trouble and now - self._partner_tried < _LOOK_AT_REGISTRY_SECONDS
            if stands or waits:
                return False
        self._partner, self._partner_tried = pair.partner, now
        partner, self.partner_trouble = None, ""
        if pair.partner is not None:
            try:
                partner = take_partner(held, pair.partner, self._settings)
            except Exception as err:  # whatever it is, the champion answers alone
                why = err.found if isinstance(err, WorkflowError) else type(err).__name__
                self.partner_trouble = _alone(held.version, pair.partner, why)
        if (held.partner and held.partner.version) == (partner and partner.version):
            return False
        self.current, self.swaps = replace(held, partner=partner), self.swaps + 1
        return True


def take(version: Version, settings: Settings) -> Served:
    """Return the version, loaded, after the scorer that will serve gave the golden rows their answers.

    The caller vouches for the version's digest: by the ledger or by the store's list of what was made here.

    Raises:
        RegistryError: when a file is missing or has another digest, the model holds a type that is not
            allowed, or model or scorer answer the golden rows otherwise than when it was evaluated.
    """
    copy = registry.local_copy(version, settings=settings, vouched=version.digest)
    folder = Path(copy.path)
    spec = spec_in(folder)
    model = registry.load_checked(folder, copy.manifest, also=own_types(spec))
    kept = pd.read_parquet(folder / GOLDEN)
    golden = kept[spec.features.all]
    scorer = scorer_for(model, spec, golden)
    classes = copy.manifest.classes
    differs = difference(kept, _as_answers(scorer.answers(rows_of(golden, spec)), classes))
    if differs:
        raise RegistryError(
            f"version {version.number}, whose scorer in this app gives {differs}",
            "the answers it gave when it was evaluated",
            "keep serving what serves, and report this: model and scorer disagree",
            model=version.name,
        )
    return Served(
        version.name, version.number, version.digest, model, spec, copy.manifest, RowChecker(spec),
        scorer, golden, _image_warning(version, copy.manifest),
    )  # fmt: skip


def take_partner(champion: Served, number: int, settings: Settings) -> Partner:
    """Return a former champion, loaded and re-scored like the champion, to answer beside it.

    Raises:
        RegistryError: when it cannot be believed, see `take`, or the two have no mean.
    """
    partner = take(former_champion(champion.name, number, settings), settings)
    fault = why_no_mean(champion.answering, partner.answering)
    if fault:
        raise RegistryError(
            f"version {number} with {fault}",
            "answers that have a mean with the champion's",
            model=champion.name,
        )
    scorer = PairScorer(champion.scorer, partner.scorer)
    scorer.answers(rows_of(champion.golden, champion.spec))
    return Partner(partner, scorer)


def _alone(champion: int, partner: int, why: str) -> str:
    return f"version {champion} answers alone, without version {partner}: {why}"


def _as_answers(given: Sequence[Mapping[str, Any]], classes: tuple[Any, ...] | None) -> Answers:
    said = [one["prediction"] for one in given]
    prediction = np.asarray(said) if classes is None else _objects(said)
    if not given or "probabilities" not in given[0]:
        return Answers(prediction)
    names = [str(one) for one in classes or ()]
    table = [[one["probabilities"][name] for name in names] for one in given]
    return Answers(prediction, np.asarray(table, dtype=np.float64))


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    return np.fromiter(values, dtype=object, count=len(values))


def _image_warning(version: Version, manifest: Manifest) -> str:
    made_in, here = manifest.code.get("image"), os.environ.get("EVERGREEN_IMAGE_DIGEST", "").strip()
    if not made_in or not here or made_in == here:
        return ""
    return (
        f"version {version.number} was made in image {str(made_in)[:19]}… and this app runs in {here[:19]}…; "
        "its golden rows gave the same answers"
    )
