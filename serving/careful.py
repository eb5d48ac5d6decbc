"""A scorer that holds rows to its version's own contract: those of a version that waits may differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.holder import Served
from serving.scoring import Scorer
from tasks.core.model.pipeline import Predictions


class Careful(Scorer):
    """Answers rows that the champion's contract let through, if its own lets them through as well."""

    def __init__(self, served: Served):
        self._inner = served.scorer
        self._checker = served.checker
        self._known = frozenset((*served.checker.names, *served.checker.identity))
        self.is_bound = served.scorer.is_bound
        self.is_rowwise = served.scorer.is_rowwise

    def said(self, rows: Sequence[Mapping[str, Any]]) -> Predictions:  # Any: checked values
        """Return what the model says; fields that it knows nothing of are left out.

        Raises:
            BadRows: when a field that it needs is missing, or its contract refuses a value.
        """
        own = [{name: value for name, value in row.items() if name in self._known} for row in rows]
        return self._inner.said(self._checker.check(own))
