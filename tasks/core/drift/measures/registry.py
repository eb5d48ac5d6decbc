"""Every measure a verdict rests on. To add one: a file beside this, and a line here."""

from __future__ import annotations

from tasks.core.drift.measures.base import Measure
from tasks.core.drift.measures.chi_square import CHI_SQUARE
from tasks.core.drift.measures.domain_auc import DOMAIN_AUC
from tasks.core.drift.measures.invalid_share import INVALID_SHARE
from tasks.core.drift.measures.jensen_shannon import JENSEN_SHANNON
from tasks.core.drift.measures.kl import KL
from tasks.core.drift.measures.ks import KS
from tasks.core.drift.measures.missing_share import MISSING_SHARE
from tasks.core.drift.measures.psi import PSI
from tasks.core.drift.measures.total_variation import TOTAL_VARIATION
from tasks.core.drift.measures.unseen_share import UNSEEN_SHARE
from tasks.core.drift.measures.wasserstein import WASSERSTEIN

MEASURES: tuple[Measure, ...] = (
    PSI,
    JENSEN_SHANNON,
    KL,
    TOTAL_VARIATION,
    WASSERSTEIN,
    KS,
    CHI_SQUARE,
    MISSING_SHARE,
    UNSEEN_SHARE,
    INVALID_SHARE,
    DOMAIN_AUC,
)
