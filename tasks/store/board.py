"""Everything on record of one model that a board shows, read in a few queries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.board.facts import KINDS, Asked, Board, Line, Move
from tasks.core.kpi.facts import Trouble
from tasks.core.window import Window, utc
from tasks.settings import Settings
from tasks.store import alerts, catalog, ledger, pages
from tasks.store.engine import reading
from tasks.store.schema import checks, predictions
from tasks.store.schema_serving import traffic
from tasks.store.traffic import read_traffic
from tasks.store.trends import verdict_history

MOST_WINDOWS = 500
"""Windows of a kind that one board shows; our choice: more points than a screen has room for."""


def board_facts(
    engine: Engine,
    model: str,
    *,
    as_of: datetime,
    since: datetime | None = None,
    settings: Settings | None = None,
    reports: bool = True,
) -> Board:
    """Return the model as it stood at `as_of`.

    Args:
        engine: the store.
        model: name of the model.
        as_of: what was known later is not seen.
        since: every window that ended after this; default: the last `MOST_WINDOWS` of each kind.
        settings: this place.
        reports: look which drift reports are kept, too.
    """
    until = utc(as_of)
    lines = _lines(engine, model, until, since)
    performance = next((one for one in reversed(lines) if one.summary.get("metric")), None)
    return Board(
        model=model,
        as_of=until,
        lines=tuple(lines),
        drift=tuple(verdict_history(engine, model, windows=MOST_WINDOWS, before=until)),
        moves=tuple(
            Move(
                row.action,
                row.at,
                row.to_version,
                row.from_version,
                row.actor,
                row.reason,
                row.decision_id,
                row.cause,
                row.partner,
            )
            for row in ledger.history(engine, model)
            if row.at <= until
        ),
        troubles=tuple(
            Trouble(one.cause, one.tier, one.opened_at, _by(one.resolved_at, until), one.message)
            for one in alerts.history(engine, model)
            if one.opened_at <= until
        ),
        metric=str(performance.summary["metric"]) if performance else "",
        reports=pages.drift_reports(model, settings) if reports else frozenset(),
    )


def known_models(engine: Engine) -> list[str]:
    """Return every model that anything is known of: a version, an outcome, a check, an answer."""
    tables = (checks, predictions, traffic)
    with reading(engine) as connection:
        found = {
            name
            for table in tables
            for name in connection.execute(sa.select(table.c.model).distinct()).scalars()
        }
    return sorted(found | set(catalog.model_names(engine)))


def asked_in(engine: Engine, model: str, window: Window) -> Asked:
    """Return the requests of the window, as the processes of the app counted them."""
    counted = read_traffic(engine, model, window)
    return Asked(
        requests=sum(one.requests for one in counted),
        refused=sum(one.requests for one in counted if 400 <= one.status < 500),
        failed=sum(one.requests for one in counted if one.status >= 500),
    )


def _by(moment: datetime | None, until: datetime) -> datetime | None:
    return moment if moment is not None and moment <= until else None


def _lines(engine: Engine, model: str, until: datetime, since: datetime | None) -> list[Line]:
    decided = {row.run_id: row.decision_id for row in ledger.decisions(engine, model) if row.run_id}
    found = [_line(row, decided) for kind in KINDS for row in _newest(engine, model, kind, until, since)]
    return sorted(found, key=lambda one: (one.window.end, KINDS.index(one.kind)))


def _newest(
    engine: Engine, model: str, kind: str, until: datetime, since: datetime | None
) -> list[sa.RowMapping]:
    """Return the newest conclusion of each window, newest first; of drift, which is long, the reason."""
    later = checks.alias()
    same = sa.and_(
        *(later.c[name] == checks.c[name] for name in ("model", "kind", "window_start", "window_end")),
        later.c.revision > checks.c.revision,
    )
    names = ("kind", "window_start", "window_end", "version", "outcome", "run_id")
    summary = checks.c.summary["reason"].as_string() if kind == "drift" else checks.c.summary
    query = (
        sa.select(*(checks.c[name] for name in names), summary.label("said"))
        .where(checks.c.model == model, checks.c.kind == kind, checks.c.window_end <= until)
        .where(~sa.exists().where(same))
        .order_by(checks.c.window_end.desc(), checks.c.window_start.desc())
    )
    query = query.limit(MOST_WINDOWS) if since is None else query.where(checks.c.window_end > utc(since))
    with reading(engine) as connection:
        return list(connection.execute(query).mappings())


def _line(row: sa.RowMapping, decided: Mapping[str, str]) -> Line:
    said: Any = row["said"]  # Any: JSON, or of drift its reason
    summary = said if isinstance(said, dict) else {}
    reason = str(said or "") if not isinstance(said, dict) else _reason(summary)
    return Line(
        kind=row["kind"],
        window=Window(row["window_start"], row["window_end"]),
        version=row["version"],
        outcome=row["outcome"],
        summary=summary,
        reason=reason,
        run_id=row["run_id"],
        decision_id=decided.get(row["run_id"] or "", ""),
    )


def _reason(summary: Mapping[str, Any]) -> str:  # Any: JSON
    return str(summary.get("reason") or summary.get("sentence") or "")
