"""A month of one model in plain words, for those who pay for it and those who use it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.core.board.facts import Asked, Board, Line, Move, apart
from tasks.core.board.glossary import glossary, metric_words
from tasks.core.board.month import month_name
from tasks.core.board.state import latency, state_of
from tasks.core.kpi.facts import Trouble
from tasks.core.kpi.indicator import span
from tasks.core.kpi.measure import Scorecard
from tasks.core.records.drift_words import percent
from tasks.core.records.text import bullets, number, said
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration

MOST_NAMED = 12
"""Changes or incidents that are told one by one."""


@dataclass(frozen=True)
class Section:
    """A heading, some paragraphs and some points."""

    title: str
    paragraphs: tuple[str, ...]
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """One month of one model; `glossary` explains each word that is not everyday."""

    model: str
    title: str
    lead: str
    sections: tuple[Section, ...]
    glossary: tuple[tuple[str, str], ...]


def review_of(
    board: Board, card: Scorecard, spec: ModelSpec, month: Window, *, asked: Asked | None = None
) -> Review:
    """Return the month as it looked at the board's moment; `card` and `asked` count the same month.

    Of windows that overlap only those are told that do not.
    """
    board = replace(board, lines=apart(board.lines))
    inside = replace(
        board, lines=tuple(one for one in board.lines if month.start < one.window.end <= month.end)
    )
    over = board.as_of >= month.end
    return Review(
        model=spec.name,
        title=f"{spec.name}: review of {month_name(month)}{'' if over else ', so far'}",
        lead=_lead(inside, board, over=over),
        sections=(
            _does(spec),
            _did(inside, board, spec, month),
            _changed(board, month),
            _incidents(board, month),
            _service(inside, spec, asked or Asked()),
            _money(card, spec),
            _asked(board, inside, spec),
        ),
        glossary=glossary(),
    )


def review_markdown(review: Review) -> str:
    """Return the review as Markdown."""
    lines = [f"# {said(review.title)}", "", said(review.lead), ""]
    for one in review.sections:
        lines += [f"## {said(one.title)}", ""]
        lines += [part for text in one.paragraphs for part in (said(text), "")]
        lines += [*bullets(one.points), ""] if one.points else []
    lines += ["## Words", ""]
    lines += [f"- **{said(word)}**: {said(meaning)}" for word, meaning in review.glossary]
    return "\n".join(lines) + "\n"


def _lead(inside: Board, board: Board, *, over: bool) -> str:
    judged = _judged(inside)
    state = state_of(board)
    when = "At the end of the month" if over else "Now"
    if not judged:
        return f"{when}: {state.word.lower()}. No window of this month could be judged yet."
    kept = sum(one.outcome != "drift" for one in judged)
    return (
        f"{when}: {state.word.lower()}. The model kept its promise in {kept} of {len(judged)} windows that "
        "could be judged."
    )


def _does(spec: ModelSpec) -> Section:
    what = "which class a case belongs to" if spec.task == "classification" else "a number for each case"
    column = spec.label.column.replace("_", " ")
    text = (
        f"It predicts {column} – {what} – from {_times(len(spec.features.all), 'fact')} about each case. "
        f"Whether it was right is known after about {_length(spec.label.maturity)}."
    )
    return Section("What the model does", (text, metric_words(spec.metric)))


def _did(inside: Board, board: Board, spec: ModelSpec, month: Window) -> Section:
    title = "How it did against its promise"
    judged = _judged(inside)
    unknown = sum(one.outcome == "undecided" for one in inside.of("performance"))
    rest = f" {unknown} more could not be judged, mostly for want of labels." if unknown else ""
    if not judged:
        return Section(title, (f"Nothing could be judged this month.{rest}",))
    low = min(judged, key=lambda one: one.number("value") or 0.0)
    bad = sum(one.outcome == "drift" for one in judged)
    text = (
        f"On average it scored {number(_mean(judged, 'value'))}; "
        f"promised was {number(_mean(judged, 'promise'))}. "
        f"The worst window scored {number(low.number('value'))}. "
        f"In {bad or 'none'} of {len(judged)} windows it fell below its promise beyond chance.{rest}"
    )
    before = [one for one in _judged(board) if one.window.end <= month.start][-len(judged) :]
    then = f"In as many windows before, the average was {number(_mean(before, 'value'))}." if before else ""
    looks = inside.of("drift")
    drifted = sum(one.outcome == "drift" for one in looks)
    drift = f"What comes in differed from what it was trained on in {drifted} of {len(looks)} windows."
    return Section(title, tuple(part for part in (text, then, drift if looks else "") if part))


def _changed(board: Board, month: Window) -> Section:
    moves = [one for one in board.moves if month.start <= one.at < month.end]
    told = [text for one in moves if (text := _move(one))]
    title = "What changed, and why"
    if not told:
        return Section(title, ("The same version served all month, and no other was tried.",))
    trained = sum(one.action in ("promoted", "kept", "refused", "waiting") for one in moves)
    served = sum(one.serves for one in moves)
    text = f"{_times(trained, 'attempt')} to renew it; {_times(served, 'change')} of the version that serves."
    return Section(title, (text,), tuple(told[-MOST_NAMED:]))


_CAUSES = {
    "decay": "its score had fallen below the promise",
    "drift": "what comes in had changed",
    "staleness": "it had become stale",
    "new_rows": "enough new rows had come in",
    "new_labels": "enough new labels had come in",
    "first": "it was the first",
    "manual": "somebody asked for it",
}


def _move(one: Move) -> str:
    day = f"{one.at.day} {one.at:%B}"
    cause = f" It was trained because {_CAUSES[one.cause]}." if one.cause in _CAUSES else ""
    who = "automatically" if one.actor == "gate" else f"by {one.actor}"
    why = f" Reason given: {one.reason.rstrip('.')}." if one.reason else ""
    better = " On the same cases it did better than the version before." if one.from_version else ""
    if one.actor == "gate":  # its reason is told in figures; they stand on the board
        why = better
    words: dict[str, str] = {
        "promoted": f"{day}: version {one.version} began to serve, chosen {who}.{cause}{why}",
        "rolled_back": f"{day}: version {one.version} was put back, {who}.{why}",
        "kept": f"{day}: a new version was trained and was not better; the old one stayed.{cause}",
        "refused": f"{day}: a new version was trained and refused.{why}",
        "waiting": f"{day}: version {one.version} was trained and waits for a person's word.{cause}",
        "rejected": f"{day}: version {one.version} was rejected by {one.actor}.{why}",
        "partnered": f"{day}: from here on {_voices(one)}.{why}",
    }
    return words.get(one.action, "")


def _voices(one: Move) -> str:
    if one.partner is None:
        return f"version {one.version} answered alone again"
    return f"the earlier version {one.partner} had half the vote beside version {one.version}"


_TROUBLES = {
    "data": "the data that came in could not be used",
    "decay": "the score fell below the promise",
    "drift": "what came in had changed",
    "labels": "the labels looked wrong or did not come",
    "launch": "a new training could not be started",
    "futile": "new trainings did not help",
    "service": "the service was slow or failed too often",
    "approval": "a new version waited for a person",
    "rollback": "a new version was worse in service and had to go back",
}


def _incidents(board: Board, month: Window) -> Section:
    found = [
        one
        for one in board.troubles
        if one.tier != "info"
        and one.opened_at < month.end
        and (one.resolved_at is None or one.resolved_at >= month.start)
    ]
    if not found:
        return Section("Incidents", ("None.",))
    points = []
    for one in found[-MOST_NAMED:]:
        end = one.resolved_at
        lasted = span(((end or board.as_of) - one.opened_at).total_seconds())
        ended = f"ended after {lasted}" if end else f"open for {lasted}"
        what = _TROUBLES.get(one.cause.split(" ")[0]) or f"{one.cause}: {one.message}"[:300].rstrip(".")
        points.append(f"{one.opened_at.day} {one.opened_at:%B} ({one.tier}): {what}; {ended}.")
    lasting = sum(one.resolved_at is None for one in found)
    return Section("Incidents", (f"{_times(len(found), 'incident')}, {lasting} still open.",), tuple(points))


def _service(inside: Board, spec: ModelSpec, asked: Asked) -> Section:
    if not asked.requests:
        return Section("Service", ("Not measured: the app answered no request that is on record.",))
    lines = [one for one in inside.of("service") if one.number("requests")]
    share = f"{100 * (1 - asked.failed / asked.due):.5g} % answered; " if asked.due > 0 else ""
    slow = [value for one in lines if (value := latency(one, "p99_ms")) is not None]
    refused = f"{asked.refused:,} were wrong and refused" if asked.refused else ""
    text = (
        f"{asked.requests:,} requests{f', of which {refused}' if refused else ''}. "
        f"Of the {'others' if refused else 'requests'} {asked.failed:,} failed on our side "
        f"({share}agreed are {100 * spec.slo.availability:g} %)."
    )
    speed = f"In the slowest window 99 of 100 answers came within {max(slow):.3g} ms." if slow else ""
    known = [value for one in inside.of("labels") if (value := one.number("coverage")) is not None]
    truth = (
        f"The truth is known by now for {percent(sum(known) / len(known))} of the answers." if known else ""
    )
    return Section("Service", tuple(part for part in (text, speed, truth) if part))


def _money(card: Scorecard, spec: ModelSpec) -> Section:
    keys = ("cost", "worth", "gain", "roi")
    found = [one for one in card.kpis if one.key in keys]
    if not found:
        text = "Not counted: the model's spec names no prices (costs) and no worth of answers (gate.value)."
        return Section("Money", (text,))
    return Section(
        "Money",
        ("Counted from what is on record; each line says how.",),
        tuple(f"{one.title}: {one.shown()} ({one.meaning})" for one in found),
    )


def _asked(board: Board, inside: Board, spec: ModelSpec) -> Section:
    asks = [
        *_waiting(board),
        *(f"Look at the open incident: {one.cause} ({one.tier})." for one in _critical(board)),
    ]
    labels = inside.newest("labels")
    if labels and labels.outcome in ("warn", "drift"):
        asks.append(f"See to it that labels arrive: {labels.reason or 'few are known'}.")
    budget = inside.newest("budget")
    if budget and (budget.number("left") or 0.0) <= 0:
        asks.append("The error budget is spent: decide whether the promise or the model has to change.")
    plan = (
        f"The model is checked every {_length(spec.window.check)} without anybody asking. "
        "It is trained again by itself when its score falls below the promise or its inputs drift in "
        f"{spec.drift.windows[0]} of {spec.drift.windows[1]} windows, at most "
        f"{_times(spec.retrain.budget_per_week, 'time')} a week."
    )
    said_so = "Of people nothing is asked." if not asks else "Asked of people:"
    return Section("What comes next", (plan, said_so), tuple(asks))


def _waiting(board: Board) -> list[str]:
    ruled: dict[int, str] = {}
    for one in board.moves:
        if one.version is not None:
            ruled[one.version] = one.action
    return [
        f"Approve or reject version {version}, which waits."
        for version, last in ruled.items()
        if last == "waiting"
    ]


def _critical(board: Board) -> list[Trouble]:
    return [one for one in board.open_troubles if one.tier != "info"]


def _judged(board: Board) -> list[Line]:
    return [
        one
        for one in board.of("performance")
        if one.outcome != "undecided" and one.number("value") is not None
    ]


def _mean(lines: list[Line], name: str) -> float | None:
    found = [value for one in lines if (value := one.number(name)) is not None]
    return sum(found) / len(found) if found else None


def _length(text: str) -> str:
    seconds = parse_duration(text).total_seconds()
    return _times(int(seconds // 86_400), "day") if seconds % 86_400 == 0 else span(seconds)


def _times(count: int, thing: str) -> str:
    return f"{count or 'No'} {thing}{'s' * (count != 1)}"
