"""The reference of every field of a model's block, as Markdown, from the schema that checks the block.

python -m tasks.core.spec_reference > docs/spec.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.core.spec import ModelSpec

_HEAD = """# Every field of a model's block

Written by `python -m tasks.core.spec_reference > docs/spec.md` from the schema that checks the block; a test
keeps the two alike. A block with a wrong field is refused with the path of the field, what stands there and
what may stand there. An empty default means none, or what the meaning says.
"""
_LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
_DURATION = "^[0-9]{1,8}(s|m|h|d|w)$"

Schema = Mapping[str, Any]  # Any: JSON


def spec_reference() -> str:
    """Return a page with a table for the block and for each of its sections, in the order of the schema."""
    schema = ModelSpec.model_json_schema()
    parts = [_HEAD]
    for path, section in _sections(schema, schema["$defs"]):
        rows = [
            _row(name, _described(field, schema["$defs"]), name in section.get("required", ()))
            for name, field in _fields(section)
        ]
        lead = section.get("description", "").split("\n\n")[0].replace("\n", " ") if path else ""
        title = f"`{path}`" if path else "The block"
        head = "| field | values | default | meaning |\n|---|---|---|---|"
        parts.append("\n".join(filter(None, (f"## {title}\n", lead and f"{lead}\n", head, *rows))) + "\n")
    return "\n".join(parts)


def _sections(schema: Schema, known: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield the section and those within it, each with its path from the block, the outer ones first."""
    yield path, schema
    more = schema.get("additionalProperties")
    for name, field in [*_fields(schema), *([("<column>", more)] if isinstance(more, dict) else [])]:
        inner = _reference_in(field)
        if inner is not None:
            yield from _sections(known[inner], known, f"{path}.{name}".lstrip("."))


def _fields(section: Schema) -> list[tuple[str, Schema]]:
    fields = section.get("properties", {}).items()
    return sorted(fields, key=lambda field: field[1].get("position", 0))


def _reference_in(field: Schema) -> str | None:
    """Return the name of the section that the field holds, directly, as an option, or by column."""
    inner = field.get("additionalProperties")
    options = [field, *field.get("anyOf", ()), *([inner] if isinstance(inner, dict) else [])]
    names = [option["$ref"].rsplit("/", 1)[1] for option in options if "$ref" in option]
    return names[0] if names else None


def _described(field: Schema, known: Schema) -> Schema:
    """Return the field with the description of its section where it has none of its own."""
    inner = _reference_in(field)
    return field if inner is None else {"description": known[inner].get("description", ""), **field}


def _row(name: str, field: Schema, required: bool) -> str:
    default = "**required**" if required else _default(field)
    meaning = field.get("description", "").replace("\n", " ").replace("|", "\\|")
    return f"| `{name}` | {_values(field)} | {default} | {meaning} |"


def _default(field: Schema) -> str:
    if field.get("default") in (None, {}, [], ""):
        return ""
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`".replace("|", "\\|")


def _values(field: Schema) -> str:
    """Return what may stand in the field, as people say it."""
    if "anyOf" in field:
        options = [_values(option) for option in field["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "$ref" in field:
        return "section"
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("pattern") == _DURATION:
        return "duration (`12h`, `7d`, `4w`)"
    return " ".join(
        (_kind(field), *(text.format(field[key]) for key, text in _LIMITS.items() if key in field))
    )


def _kind(field: Schema) -> str:
    kind = str(field.get("type", "any"))
    if kind == "array":
        pair = field.get("prefixItems")
        return (
            f"[{', '.join(_values(item) for item in pair)}]" if pair else f"list of {_values(field['items'])}"
        )
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"mapping to {_values(inner)}" if isinstance(inner, dict) else "mapping"
    return {"string": "text", "boolean": "true or false"}.get(kind, kind)


if __name__ == "__main__":
    sys.stdout.write(spec_reference())
