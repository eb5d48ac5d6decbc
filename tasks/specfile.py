"""Model specs as they stand in a YAML file, under `definitions.models`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec, parse_spec


def load_spec(model: str, config: Path, *, overrides: dict[str, str] | None = None) -> ModelSpec:
    """Return the spec of one model from a YAML file.

    Args:
        model: key under `definitions.models`, or the spec's own name.
        config: the YAML file.
        overrides: values by dotted field, e.g. `{"window.check": "7d"}`; read as YAML.

    Raises:
        SpecError: when the file, the model or a field is missing or wrong.
    """
    blocks = model_blocks(config)
    named = {str(block.get("name", key)): key for key, block in blocks.items() if isinstance(block, dict)}
    key = model if model in blocks else named.get(model)
    if key is None:
        near = get_close_matches(model, blocks, n=1)
        raise SpecError(
            f"no model {model!r} in {config.name}, which has {sorted(blocks)}",
            "a key under definitions.models",
            f"did you mean {near[0]!r}?" if near else "add the block or name another file with --config",
        )
    block = blocks[key]
    for field, text in (overrides or {}).items():
        block = _replaced(block, field.split("."), yaml.safe_load(text))
    return parse_spec(block, where=f"{config.name}: {key}")


def model_blocks(config: Path) -> dict[str, Any]:
    """Return the raw model blocks of a YAML file, by key.

    Raises:
        SpecError: when the file cannot be read or has no `definitions.models`.
    """
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise SpecError(f"no file {config.name}", "a YAML file", "name it with --config") from err
    except yaml.YAMLError as err:
        place = getattr(err, "problem_mark", None)
        line = f" at line {place.line + 1}" if place else ""
        raise SpecError(f"{config.name} is not YAML{line}", "valid YAML", "correct that line") from err
    definitions = content.get("definitions") if isinstance(content, dict) else None
    blocks = definitions.get("models") if isinstance(definitions, dict) else None
    if not isinstance(blocks, dict) or not blocks:
        raise SpecError(
            f"{config.name} has no definitions.models", "model blocks by name", "see README, 'Your own model'"
        )
    return blocks


def _replaced(block: Any, path: list[str], value: object) -> Any:  # Any: a YAML tree
    if not path:
        return value
    if not isinstance(block, dict):
        raise SpecError(f"--set names {path[0]!r} below a plain value", "a field of the model block")
    return {**block, path[0]: _replaced(block.get(path[0], {}), path[1:], value)}
