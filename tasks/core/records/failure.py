"""Why a run failed, for the person who is woken by it: which data, which step, which cause, what now."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from tasks.core.errors import WorkflowError
from tasks.core.records.text import Ready, code, said, table
from tasks.core.spec import ModelSpec
from tasks.core.spec_problems import NAME_PATTERN

_ROOMS = ("flows.", "tasks.", "serving.")
_AGAIN = "Nothing is half done: run it again, and it goes on from what was recorded."
_SLOW = "It took longer than its limit: look whether the source, the store or the registry is slow."
_HINTS = {
    "TaskRunTimeoutError": _SLOW,
    "FlowRunTimeoutError": _SLOW,
    "MemoryError": "Give the worker more memory, or shorten window.training.",
    "ParameterTypeError": "Correct the parameters; what is allowed stands in the form and in `--help`.",
}
_STRANGE = "This project did not foresee this error: read the run's log, and report it."
_SIGNALS = {
    -9: "killed, often for want of memory",
    -15: "asked to stop",
    137: "killed, often for want of memory",
}
_AFTER = re.compile(r"[?#].*$")


@dataclass(frozen=True)
class Cause:
    """What went wrong, told without a value of any row: `step` is what the flow called, `place` the line."""

    kind: str
    found: str
    todo: str
    expected: str = ""
    window: str = ""
    step: str = ""
    place: str = ""


@dataclass(frozen=True)
class Failure:
    """Everything the page about a failed run says."""

    model: str
    flow: str
    ended: str
    cause: Cause
    source: str = ""
    span: str = ""
    serving: str = ""
    command: str = ""


def failure_markdown(failure: Failure) -> str:
    """Return the page: what happened in one line, then the answers in the order they are asked."""
    cause = failure.cause
    step = code(cause.step) if cause.step else "before the first step, or not known"
    rows: list[tuple[str, object]] = [
        ("Which data?", failure.span or "not known: the parameters name no valid model"),
        *([("From where?", failure.source)] if failure.source else []),
        ("Which step?", Ready(f"{step}, {code(cause.place)}") if cause.place else step),
        ("Found", f"{cause.kind}: {cause.found}"),
        *([("Expected", cause.expected)] if cause.expected else []),
        ("What now?", cause.todo),
        ("Still serving", failure.serving or "not known"),
    ]
    head = f"## {said(failure.model)}: {said(failure.flow)} {said(failure.ended)}"
    lines = [head, "", *table(("", ""), rows)]
    return "\n".join([*lines, *(["", f"Run it again: {code(failure.command)}"] if failure.command else [])])


def cause_of_error(err: BaseException) -> Cause:
    """Return what an error says that may stand on a page.

    An error of ours speaks for itself. Any other is named by its type and place only, because its text may
    hold values of rows or a password.

    Example:
        >>> cause_of_error(ValueError("could not convert 'jane@example.org'")).found
        'an error of another package'
    """
    step, place = _where(err.__traceback__)
    kind = type(err).__name__
    if isinstance(err, WorkflowError):
        behind = f" ({type(err.__cause__).__name__})" if err.__cause__ else ""
        found = without_secrets(err.found) + (behind if behind.strip(" ()") not in err.found else "")
        todo = without_secrets(err.todo) or "Mend what was found. " + _AGAIN
        return Cause(kind, found, todo, without_secrets(err.expected), err.window, step, place)
    if kind == "ParameterTypeError":  # names the field and the rule, never what was given
        return Cause(kind, without_secrets(str(err))[:400], _HINTS[kind], step=step, place=place)
    return Cause(kind, "an error of another package", _HINTS.get(kind, _STRANGE), step=step, place=place)


def cause_of_crash(message: str, *, step: str = "") -> Cause:
    """Return what is known of a run whose process ended without an error; `message` is Prefect's.

    Example:
        >>> cause_of_crash("Flow run process exited with non-zero status code -9.").found
        'the process ended with status -9 (killed, often for want of memory)'
    """
    status = re.search(r"status code:? (-?\d+)", message)
    found = "the process ended, or its worker or machine went away, without an error"
    if status:
        what = _SIGNALS.get(int(status[1]), "see the worker's log")
        found = f"the process ended with status {status[1]} ({what})"
    elif "heartbeat" in message.lower():
        found = "no sign of life from the run: its process, worker or machine is gone"
    return Cause("Crashed", found, _AGAIN, step=step)


def described_source(spec: ModelSpec) -> str:
    """Return where the rows come from, without user, password and query of the address."""
    source = spec.source
    what = f", table {source.table}" if source.table else ", a query" if source.query else ""
    return f"source {without_secrets(source.url)}{what}"


def without_secrets(text: str) -> str:
    """Return the text with addresses cut down to where they point.

    Example:
        >>> without_secrets("no answer from postgresql://me:p@ss@db/crm?sslkey=x")
        'no answer from postgresql://…@db/crm'
    """
    return " ".join(_bare(word) for word in text.split())


def model_name(raw: object) -> str:
    """Return the model's name in the parameters of a run, whatever they are.

    Example:
        >>> model_name({"name": "demo"}), model_name("x"), model_name({"name": "a b"})
        ('demo', 'unknown', 'unknown')
    """
    name = raw.get("name") if isinstance(raw, dict) else None
    return name if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) else "unknown"


def _bare(word: str) -> str:
    scheme, mark, rest = word.partition("://")
    if not mark:
        return word
    user, at, where = rest.rpartition("@")
    if at and ("?" in user or "#" in user):  # a password with such a sign, or a query with an @: who knows
        return f"{scheme}://…"
    return f"{scheme}://{'…@' if at else ''}{_AFTER.sub('', where)}"


def _where(trace: TracebackType | None) -> tuple[str, str]:
    """Return what the flow called that failed, and the innermost line of ours."""
    ours = list(_frames(trace))
    calls = [place for place, (module, _, _) in enumerate(ours) if module.startswith("flows.")]
    inside = ours[calls[-1] + 1 :] if calls else ours
    if not ours:
        return "", ""
    module, name, line = ours[-1]
    named = [step for _, step, _ in inside if step[0] not in "_<"]  # a task's wrappers say nothing
    return (named or [""])[0], f"{module}, line {line} ({name})"


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, str, int]]:
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(_ROOMS):
            yield module, trace.tb_frame.f_code.co_name, trace.tb_lineno
        trace = trace.tb_next
