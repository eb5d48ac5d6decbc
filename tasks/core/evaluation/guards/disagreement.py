"""How often challenger and champion give different labels: one that differs much is another model."""

from __future__ import annotations

import numpy as np

from tasks.core.evaluation.scoring import Scored, all_labels, encode
from tasks.core.evaluation.verdicts import GuardResult


def judge_disagreement(challenger: Scored, champion: Scored, most: float | None) -> GuardResult | None:
    """Return the share of rows on which the labels differ, `worse` above `most`.

    None without a limit, without rows, and for predictions that are numbers rather than labels.
    """
    if most is None or not len(challenger.prediction):
        return None
    labels = all_labels([challenger, champion])
    differ = encode(challenger.prediction, labels) != encode(champion.prediction, labels)
    share = float(np.mean(differ))
    detail = f"different labels on {share:.1%} of {len(differ):,} rows, limit {most:.1%}"
    return GuardResult("disagreement", "worse" if share > most else "ok", share, most, detail)
