"""The figures of the alarms bench as tables: Markdown to paste, HTML that opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

Line = dict[str, Any]  # Any: JSON values
Table = tuple[str, str, list[str], list[list[str]]]  # title, what it means, head, rows
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c2733}"
    "table{border-collapse:collapse;margin:1rem 0 2rem}th,td{padding:.3rem .7rem;text-align:right;"
    "border-bottom:1px solid #d5dde5}th:first-child,td:first-child{text-align:left}"
)


def write_tables(folder: Path, lines: Sequence[Line], budget: float) -> None:
    """Write `alarms.md` and `alarms.html` into the folder."""
    tables = [*_false_alarms(lines, budget), *_power(lines, budget), *_delay(lines)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alarms.md").write_text("\n".join(_markdown(table) for table in tables), encoding="utf-8")
    body = "".join(_html(table) for table in tables)
    page = f'<!doctype html><meta charset="utf-8"><title>Alarms</title><style>{STYLE}</style>{body}'
    (folder / "alarms.html").write_text(page, encoding="utf-8")


def _false_alarms(lines: Sequence[Line], budget: float) -> Iterable[Table]:
    mine = [line for line in lines if line["figure"] == "false_alarms"]
    for draws in dict.fromkeys(line["draws"] for line in mine):
        here = [line for line in mine if line["draws"] == draws]
        yield _cross(
            f"False alarms: {draws}",
            f"Share of undrifted windows that alarm, at each detector's defaults, and of how many checks. "
            f"Ours is to stay at or under {budget:.1%}.",
            "rows of a window",
            [
                (f"{line['rows']:,}", line["who"], f"{line['alarms']:.1%} of {line['checks']}")
                for line in here
            ],
        )


def _power(lines: Sequence[Line], budget: float) -> Iterable[Table]:
    mine = [line for line in lines if line["figure"] == "power"]
    for rows in dict.fromkeys(line["rows"] for line in mine):
        here = [line for line in mine if line["rows"] == rows]
        yield _cross(
            f"Power at {rows:,} rows",
            "Share of changed windows that are found. Every peer's limit is moved until it alarms on at most "
            f"{budget:.1%} of the undrifted windows; ours is as it is. In brackets: a peer at its defaults; "
            "ours: beyond chance, whether or not it matters.",
            "change",
            [(line["change"], line["who"], _found(line)) for line in here],
        )


def _delay(lines: Sequence[Line]) -> Iterable[Table]:
    mine = [line for line in lines if line["figure"] == "power" and line["runs"]]
    if mine:
        run = mine[0]["run"]
        yield _cross(
            "Windows until a change is caught",
            f"Median over runs of {run} changed windows, limits as above; a ramp moves by 0.1 sd a window.",
            "change",
            [(f"{line['change']}, {line['rows']:,} rows", line["who"], _waited(line, run)) for line in mine],
        )


def _found(line: Line) -> str:
    return f"{line['found']:.0%} ({line.get('noticed', line['found_at_defaults']):.0%})"


def _waited(line: Line, run: int) -> str:
    return f"over {run}" if line["delay_windows"] is None else f"{line['delay_windows']:.0f}"


def _cross(title: str, says: str, corner: str, cells: Sequence[tuple[str, str, str]]) -> Table:
    values = {(row, column): text for row, column, text in cells}
    columns = list(dict.fromkeys(column for _, column, _ in cells))
    rows = list(dict.fromkeys(row for row, _, _ in cells))
    body = [[row, *(values.get((row, column), "–") for column in columns)] for row in rows]
    return title, says, [corner, *columns], body


def _markdown(table: Table) -> str:
    title, says, head, rows = table
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return f"### {title}\n\n{says}\n\n" + "\n".join(lines) + "\n"


def _html(table: Table) -> str:
    title, says, head, rows = table
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><p>{escape(says)}</p><table><tr>{top}</tr>{body}</table>"
