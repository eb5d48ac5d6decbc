"""What the app tells of itself: a path per model, rows as its contract has them, examples that work."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.access import OPEN
from serving.fields import LONGEST_TEXT, Field
from serving.holder import Served
from serving.request import MOST_ROWS, BadRows, RowChecker
from serving.service import Service
from tasks.core.model.bundle import plain

Json = dict[str, Any]  # Any: JSON
PREDICT = "/predict/{model}"
_EXAMPLES = 2  # golden rows that are shown
_REFUSALS = {
    "401": "No key, or none that is good.",
    "403": "The key's role may not do this.",
    "429": "Too many requests of this caller; Retry-After says when to ask again.",
    "503": "Nothing can answer now, or the answer could not be kept: nothing was predicted. Ask again.",
}
_OF_A_BODY = {
    "400": "The body ended early, or its stated length is none.",
    "408": "The body took too long to arrive.",
    "413": "The body is too large.",
    "415": "Another content type than application/json, or a packed body.",
    "422": "The body breaks the contract; every wrong field is named, with its likely new name.",
}
_TYPES = {
    "number": ["number"],
    "integer": ["integer"],
    "boolean": ["boolean"],
    "string": ["string"],
    "category": ["string", "integer", "number", "boolean"],
    "key": ["string", "integer"],
    "time": ["string"],
}


def describe(app: FastAPI, service: Service) -> None:
    """Let the app describe itself as it serves now; made anew when a champion changes."""
    lock = threading.Lock()
    made: Json = {"of": None, "said": {}}

    def described() -> Json:
        now = tuple((name, one.current and one.current.digest) for name, one in service.holders.items())
        with lock:
            if made["of"] != now:
                made.update(of=now, said=_described(app, service))
            said: Json = made["said"]
            return said

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's own documentation does it


def row_schema(checker: RowChecker) -> Json:
    """Return the JSON schema of one row: every feature by name, with the contract's bounds."""
    fields = {one.name: _schema_of(one) for one in checker.fields}
    key, time, *parts = checker.identity_fields
    fields[key.name] = _schema_of(key) | {
        "description": "Key of the row; with it a later label finds its prediction."
    }
    fields[time.name] = _schema_of(time) | {"description": "When it happened, with its zone."}
    fields |= {one.name: _schema_of(one) | {"description": "Part of the key of the row."} for one in parts}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(checker.names),
        "properties": fields,
    }


def examples(served: Served) -> list[Json]:
    """Return rows that this version was tested with before it served: those its own contract takes."""
    found: list[Json] = []
    for row in plain(served.golden[list(served.checker.names)].head(20).to_dict("records")):
        typed = {one.name: _as_asked(one, row[one.name]) for one in served.checker.fields}
        try:
            served.checker.check([typed])
        except BadRows:
            continue
        found.append(typed)
        if len(found) == _EXAMPLES:
            break
    return found


def _described(app: FastAPI, service: Service) -> Json:
    said = get_openapi(
        title=app.title,
        version="1",
        description="Predictions of the champions; every answer is on record before it is given.",
        routes=app.routes,
    )
    said = deepcopy(said)
    general = said["paths"].pop(PREDICT, {})
    shared = said.setdefault("components", {})
    shared["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    schemas = shared.setdefault("schemas", {})
    schemas |= {"Refusal": _REFUSAL, "Problems": _PROBLEMS}
    for path, ways in said["paths"].items():
        for way in ways.values():
            _with_refusals(way, path, with_body="requestBody" in way)
    for name, holder in service.holders.items():
        said["paths"][f"/predict/{name}"] = _predict(name, holder.current, general, schemas)
    return said


def _predict(name: str, served: Served | None, general: Json, schemas: Json) -> Json:
    way = deepcopy(general.get("post", {"responses": {}}))
    way["operationId"], way["summary"] = f"predict_{name}", f"Predict rows of {name}"
    others = [one for one in way.get("parameters", []) if one.get("in") == "query"]
    way["parameters"] = [*others, deepcopy(_REQUEST_ID)]
    _with_refusals(way, PREDICT, with_body=True)
    way["responses"]["409"] = _refusal("A request with this X-Request-ID was answered before.")
    rows: Json = {"type": "array", "minItems": 1, "maxItems": MOST_ROWS}
    if served is None:
        way["description"] = "No version serves yet: every request is answered with 503."
        rows["items"] = {"type": "object"}
        shown: Mapping[str, Any] = {}
    else:
        way["description"] = f"Answered by {served}, whose contract this is."
        schemas[f"Row_{name}"] = row_schema(served.checker)
        rows["items"] = {"$ref": f"#/components/schemas/Row_{name}"}
        shown = _shown(examples(served))
    body = {
        "type": "object", "additionalProperties": False, "required": ["rows"], "properties": {"rows": rows},
    }  # fmt: skip
    content: Json = {"schema": body} | ({"examples": shown} if shown else {})
    way["requestBody"] = {"required": True, "content": {"application/json": content}}
    way["responses"]["200"] = {
        "description": "One answer per row, each on record.",
        "content": {"application/json": {"schema": _answer_schema(served)}},
    }
    return {"post": way}


def _shown(rows: Sequence[Json]) -> Json:
    if not rows:
        return {}
    found: Json = {"one": {"summary": "one row", "value": {"rows": [rows[0]]}}}
    if len(rows) > 1:
        found["many"] = {"summary": "many rows", "value": {"rows": list(rows)}}
    return found


def _answer_schema(served: Served | None) -> Json:
    answer: Json = {"type": "object", "required": ["prediction"], "properties": {"prediction": {}}}
    if served is not None and served.classes is not None:
        known = {str(one): {"type": "number"} for one in served.classes}
        answer["properties"] = {
            "prediction": {"enum": list(served.classes)},
            "probabilities": {"type": "object", "properties": known},
        }
    return {
        "type": "object",
        "required": ["request_id", "model", "version", "partner", "answers"],
        "properties": {
            "request_id": {"type": "string"},
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "partner": {
                "type": ["integer", "null"],
                "description": "The version that had half the vote; null: `version` answered alone.",
            },
            "answers": {"type": "array", "items": answer},
        },
    }


def _with_refusals(way: Json, path: str, *, with_body: bool) -> None:
    if path in OPEN:
        return
    way["security"] = [{"key": []}, {"bearer": []}]
    told = dict(_REFUSALS) | (_OF_A_BODY if with_body else {})
    told |= {"404": "There is no such model here."} if "{" in path else {}
    for status, words in told.items():
        way["responses"][status] = _refusal(words, "Problems" if status == "422" else "Refusal")


def _refusal(words: str, kind: str = "Refusal") -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind}"}}}
    return {"description": words, "content": content}


def _schema_of(field: Field) -> Json:
    kind, rule = field.plan.kind, field.rule
    found: Json = {"type": [*_TYPES[kind], *([] if field.plan.required and kind != "key" else ["null"])]}
    if rule.isin is not None:
        found["enum"] = [*rule.isin, *([None] if "null" in found["type"] else [])]
        return found if kind in {"string", "category", "boolean"} else {"enum": found["enum"]}
    bounds = {
        "minimum": rule.ge,
        "exclusiveMinimum": rule.gt,
        "maximum": rule.le,
        "exclusiveMaximum": rule.lt,
    }
    found |= {name: limit for name, limit in bounds.items() if limit is not None}
    if "string" in found["type"]:
        found["maxLength"] = LONGEST_TEXT
    if rule.matches is not None:
        found["pattern"] = f"^(?:{rule.matches})$"
    if kind == "time":
        found |= {"format": "date-time", "type": ["string", "null"]}
    return found


def _as_asked(field: Field, value: Any) -> Any:  # Any: a JSON scalar
    """Return the value as JSON would hold it: a table keeps whole numbers with gaps as fractions."""
    is_whole = isinstance(value, float) and value.is_integer() and field.plan.kind == "integer"
    return int(value) if is_whole else value


_REQUEST_ID: Json = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "A name of the caller's own for this request; sent again, it is refused with 409.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
}
_REFUSAL: Json = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "string"}},
}
_PROBLEMS: Json = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "oneOf": [
                {"type": "string", "description": "what is wrong with the body"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["row", "field", "problem"],
                        "properties": {
                            "row": {"type": "integer", "description": "from 0"},
                            "field": {"type": ["string", "null"], "description": "null: the row itself"},
                            "problem": {"type": "string"},
                        },
                    },
                },
            ]
        }
    },
}
