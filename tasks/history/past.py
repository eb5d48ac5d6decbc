"""Everything the store knows of a model's versions, read once per question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.core.policy.partners import PARTNERED, standing_at
from tasks.core.policy.served import SERVING
from tasks.core.window import Window
from tasks.store import catalog, ledger, lifecycle
from tasks.store.catalog import VersionFacts
from tasks.store.engine import reading
from tasks.store.schema import checks

_NOT_SERVING = {"waiting": "STAGING", "kept": "ARCHIVED", "refused": "ARCHIVED", "rejected": "ARCHIVED"}
UNKNOWN_HERE = "python flows/history.py backfill --model {} reads it from the registry"


@dataclass(frozen=True)
class Past:
    """A model's ledger in the order it was recorded, its versions by number and their stages."""

    model: str
    rows: tuple[ledger.LedgerRow, ...]
    facts: Mapping[int, VersionFacts]
    stages: Mapping[int, str]

    @property
    def moves(self) -> tuple[ledger.LedgerRow, ...]:
        """The rows that changed which version serves, in the order they were recorded.

        That order says what serves, so `at` is from when on it did: where the ledger has an earlier date than
        that of the move before, it is that one's. `dated` gives the date that the ledger has.
        """
        found: list[ledger.LedgerRow] = []
        for row in self.rows:
            if row.action in SERVING:
                is_dated_back = bool(found) and row.at < found[-1].at
                found.append(replace(row, at=found[-1].at) if is_dated_back else row)
        return tuple(found)

    @property
    def serving(self) -> int | None:
        """The version that serves; None before the first promotion."""
        return self.moves[-1].to_version if self.moves else None

    def dated(self, decision_id: str) -> datetime | None:
        """Return the date that the ledger has of this decision; None where it has no row."""
        return next((row.at for row in self.rows if row.decision_id == decision_id), None)

    @property
    def numbers(self) -> list[int]:
        """Every version that anything is known of, by rising number."""
        named = {row.to_version for row in self.rows} | {row.from_version for row in self.rows}
        return sorted({*self.facts, *(number for number in named if number is not None)})

    def standing(
        self, moment: datetime | None = None
    ) -> tuple[ledger.LedgerRow | None, ledger.LedgerRow | None]:
        """Return the row of the champion, and the change of partner since; at `moment`, default: the last."""
        latest = max((row.at for row in self.rows), default=None) if moment is None else moment
        return standing_at(self.rows, latest) if latest is not None else (None, None)

    def about(self, number: int) -> list[ledger.LedgerRow]:
        """Return the rows that decided about this version, oldest first; a change of partner did not."""
        return [row for row in self.rows if row.to_version == number and row.action != PARTNERED]

    def beside(self, number: int) -> list[ledger.LedgerRow]:
        """Return the changes of partner that this version took part in, as champion or as partner."""
        found, before = [], None
        for row in self.rows:
            if row.action in SERVING:
                before = None
            elif row.action == PARTNERED:
                if number in (row.to_version, row.partner, before):
                    found.append(row)
                before = row.partner
        return found

    def after(self, number: int) -> list[ledger.LedgerRow]:
        """Return the moves that let another version serve instead of this one, oldest first."""
        return [
            row
            for row in self.rows
            if row.action in SERVING
            and row.to_version != number
            and number in (row.from_version, row.evidence.get("instead_of"))
        ]

    def stage(self, number: int) -> str:
        """Return the version's stage; where no move of it is on record, what the ledger says amounts to."""
        if number in self.stages:
            return self.stages[number]
        if number == self.serving:
            return "PRODUCTION"
        rows = self.about(number)
        if not rows:
            return "CANDIDATE"
        return _NOT_SERVING.get(rows[-1].action, "ARCHIVED")

    def made_of(self, number: int) -> dict[str, Any]:  # Any: JSON
        """Return the version's data and code, from the ledger where no facts are kept; empty without both."""
        facts = self.facts.get(number)
        if facts:
            return {
                "snapshot": facts.snapshot.get("sha256"),
                "snapshot_path": facts.snapshot.get("path"),
                "rows": facts.snapshot.get("rows"),
                "window": str(Window(facts.window_start, facts.window_end)),
                "commit": facts.git_commit,
                "dirty": facts.dirty,
                "lock": facts.lock_sha256,
                "image": facts.image,
                "digest": facts.digest,
            }
        kept = next((row.evidence for row in reversed(self.about(number)) if row.action in SERVING), {})
        names = {"snapshot": "snapshot", "window": "train_window", "commit": "commit"}
        found = {name: kept.get(key) for name, key in names.items()}
        return {**found, "dirty": kept.get("dirty"), "digest": kept.get("digest")} if kept else {}

    def known(self, number: int) -> VersionFacts:
        """Return the facts of the version.

        Raises:
            RegistryError: when the catalog lacks it, or nothing at all is known of it.
        """
        facts = self.facts.get(number)
        if facts is None:
            todo = UNKNOWN_HERE.format(self.model) if number in self.numbers else self._which()
            raise RegistryError(
                f"version {number}, of which no facts are kept",
                "a registered version",
                todo,
                model=self.model,
            )
        return facts

    def _which(self) -> str:
        numbers = self.numbers
        return f"there are {len(numbers)}, {numbers[0]} to {numbers[-1]}" if numbers else "there is none yet"


def read_past(engine: Engine, model: str) -> Past:
    """Return what the store knows of the model.

    Raises:
        RegistryError: when nothing at all is known of a model of this name.
    """
    rows, facts = ledger.history(engine, model), catalog.all_facts(engine, model)
    if not rows and not facts:
        known = catalog.model_names(engine)
        raise RegistryError(
            f"no history of a model {model!r}",
            f"one of {', '.join(known[:5])}" if known else "a model that was trained",
            "check --model and EVERGREEN_STATE_DIR or EVERGREEN_STORE, or run the retrain flow",
        )
    by_number = {one.number: one for one in facts}
    return Past(model, tuple(rows), by_number, lifecycle.stages(engine, model))


def checks_behind(engine: Engine, model: str, run_id: str | None) -> list[dict[str, Any]]:  # Any: JSON
    """Return what the check run of this id concluded, one entry per window and kind."""
    if not run_id:
        return []
    asked = sa.select(checks).where(checks.c.model == model, checks.c.run_id == run_id).order_by(checks.c.id)
    with reading(engine) as connection:
        return [
            {
                "kind": row.kind,
                "window": str(Window(row.window_start, row.window_end)),
                "outcome": row.outcome,
                "reason": row.summary.get("reason"),
                "version": row.version,
            }
            for row in connection.execute(asked)
        ]


def row_as_json(row: ledger.LedgerRow) -> dict[str, Any]:  # Any: JSON
    """Return a row of the ledger without its evidence."""
    return {name: value for name, value in asdict(row).items() if name not in {"model", "evidence"}}
