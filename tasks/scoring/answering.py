"""What answers a batch: the champion alone, or the mean of its answers and its partner's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.model.bundle import MODEL
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.model.second_opinion import combine
from tasks.core.policy.partners import pair_text
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.store.models import own_types, shared_model
from tasks.store.version import PartnerInfo


@dataclass
class Answering:
    """The models that answer; `trouble` says why the partner no longer does, after it failed on some rows."""

    name: str
    version: int
    model: Any  # Any: a fitted pipeline
    partner: PartnerInfo | None = None
    trouble: str = ""
    _partner_model: Any = None  # Any: as `model`
    _features: list[str] = field(default_factory=list)

    def answer(self, frame: pd.DataFrame) -> tuple[Predictions, int | None]:
        """Return the answers to these rows, and the version that had half the vote (None: nobody).

        A partner that fails, or gives no finite number where the champion gives one, is not asked again.
        """
        own = predict(self.model, frame)
        if self.partner is None:
            return own, None
        try:
            mean = combine(own, predict(self._partner_model, frame[self._features]))
            if _is_finite(mean) or not _is_finite(own):
                return mean, self.partner.version
            why = "no finite number"
        except Exception as err:  # a pipeline may hold anybody's code; the champion can answer alone
            why = type(err).__name__
        self.trouble = f"version {self.partner.version} gave no answer beside version {self.version} ({why})"
        task_logger(__name__).warning("%s: %s; the champion answers alone", self.name, self.trouble)
        self.partner = None
        return own, None

    def __str__(self) -> str:
        """Return who answers as people read it."""
        return pair_text(self.version, self.partner.version if self.partner else None)


def answering(spec: ModelSpec, model_path: str, version: int, partner: PartnerInfo | None) -> Answering:
    """Return the champion, loaded, with its partner if that one can be loaded."""
    found = Answering(spec.name, version, shared_model(model_path, also=own_types(spec)))
    if partner is None:
        return found
    try:
        also = {*own_types(spec), *own_types(partner.spec)}  # the ledger vouches for its files
        found._partner_model = shared_model(
            partner.model_path, sha256=partner.manifest.files[MODEL], also=also
        )
        found._features = partner.spec.features.all
        found.partner = partner
    except Exception as err:  # whatever it is, the champion can answer alone
        found.trouble = f"version {partner.version} cannot be loaded ({type(err).__name__})"
        task_logger(__name__).warning("%s: %s; the champion answers alone", spec.name, found.trouble)
    return found


def _is_finite(given: Predictions) -> bool:
    values = given.prediction if given.probabilities is None else given.probabilities
    return (given.probabilities is None and given.classes is not None) or bool(np.isfinite(values).all())
