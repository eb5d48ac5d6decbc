"""The command that asks for a run again, in words that a shell takes as they are meant."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from shlex import quote

from tasks.core.form import DECISION_PATTERN, LINE_PATTERN, MAX_REASON
from tasks.core.records.failure import without_secrets

_ASKED = {"retrain": ("decision_id", "as_of", "reason", "dry_run", "force")}
# To these texts Prefect adds the quotes that make them JSON.
_BARE = re.compile(r'[^"\\\[{]*')


def command_again(flow: str, model: str, parameters: Mapping[str, object], *, deployed: bool) -> str:
    """Return the command that asks for the same run again; empty where the model is `unknown`.

    It carries what identifies the run, in shell quotes: the moment, and of a retraining its decision, reason
    and whether it was dry or forced. Never the spec, and nothing that no flow would take.

    Example:
        >>> command_again("retrain", "demo", {"decision_id": "d1", "as_of": None}, deployed=False)
        'python flows/retrain.py --model demo --decision-id d1'
        >>> command_again("monitor", "demo", {"as_of": "2026-01-12T00:00:00Z"}, deployed=True)
        "prefect deployment run 'monitor/demo' --param as_of=2026-01-12T00:00:00+00:00"
    """
    if model == "unknown":
        return ""
    asked = {name: _read(name, parameters.get(name)) for name in _ASKED.get(flow, ("as_of",))}
    known = {name: value for name, value in asked.items() if value}
    if deployed:
        words = [f"prefect deployment run '{flow}/{model}'"]
        words += [f"--param {quote(f'{name}={_for_prefect(value)}')}" for name, value in known.items()]
    else:
        words = [f"python flows/{flow}.py --model {model}"]
        words += [_option(name, value) for name, value in known.items()]
    return " ".join(words)


def _read(name: str, raw: object) -> str | bool:
    """Return a parameter of a run as a flow would take it; empty where none would, or it is its default."""
    match name:
        case "decision_id":
            return _decision(raw)
        case "as_of":
            return _moment(raw)
        case "reason":
            return _reason(raw)
        case _:
            return raw is True


def _moment(raw: object) -> str:
    try:
        found = raw if isinstance(raw, datetime) else datetime.fromisoformat(str(raw))
    except ValueError:
        return ""
    return found.isoformat() if found.tzinfo else ""


def _decision(raw: object) -> str:
    return raw if isinstance(raw, str) and re.fullmatch(DECISION_PATTERN, raw) else ""


def _reason(raw: object) -> str:
    if not isinstance(raw, str) or len(raw) > MAX_REASON or not re.fullmatch(LINE_PATTERN, raw):
        return ""
    # What `code` would change on the page is changed before it is quoted, else it would break the quotes.
    text = without_secrets(raw).replace("`", "'").replace("|", "¦")
    return "" if text == "manual" else text


def _for_prefect(value: str | bool) -> str:
    """Return the value as `--param` reads it: as JSON where it is any, else as a text."""
    if isinstance(value, str) and _BARE.fullmatch(value):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def _option(name: str, value: str | bool) -> str:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return option
    return f"{option}={quote(value)}" if value.startswith("-") else f"{option} {quote(value)}"
