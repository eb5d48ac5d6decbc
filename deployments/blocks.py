"""Create or update Prefect blocks from environment variables; prints names, never values.

    EVERGREEN_BLOCK_SLACK_ML=https://… python deployments/blocks.py

makes `slack-webhook/ml`, which a model's `alerts` call `slack/ml`. A variable that ends in `_FILE` names a
file that holds the value. A value that starts with `{` is the block's fields as JSON.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file: imports start at the repository, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from prefect.blocks.core import Block
from pydantic import SecretBytes, SecretStr
from rich.console import Console

from deployments.api import Api, connected
from deployments.block_kinds import KINDS, build
from tasks.core.errors import SpecError, WorkflowError

PREFIX = "EVERGREEN_BLOCK_"
_NAME = re.compile(rf"^{PREFIX}({'|'.join(KINDS)})_([A-Z0-9]+(?:_[A-Z0-9]+)*)$")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 done, 2 refused with a reason."""
    args = _parser().parse_args(argv)
    out = Console(width=None if sys.stdout.isatty() else 160)
    try:
        wanted = blocks_of(os.environ)
        with connected() as api:
            signs = {name: sign(api, name, block) for name, block in wanted.items()}
        for name, block in wanted.items():
            if signs[name] != "=" and not args.dry_run:
                block.save(name.partition("/")[2], overwrite=True)
            out.print(f"{signs[name]} {name}", markup=False, highlight=False)
        if not wanted:
            out.print(f"no variable that starts with {PREFIX}; --help lists them", highlight=False)
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    return 0


def blocks_of(environ: Mapping[str, str]) -> dict[str, Block]:
    """Return the blocks that the environment describes, by `type-slug/name`.

    Raises:
        SpecError: when a variable is misspelt or its value cannot be one of that block; values are not told.
    """
    found = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        matched = _NAME.match(variable.removesuffix("_FILE"))
        if not matched:
            raise SpecError(
                f"variable {variable}", f"{PREFIX}<kind>_<NAME>, kind one of {', '.join(KINDS)}", "rename it"
            )
        if f"{variable}_FILE" in environ:
            raise SpecError(f"both {variable} and {variable}_FILE", "one of them", "unset the other")
        kind, name = matched[1], matched[2].lower().replace("_", "-")
        value = _value(variable, environ[variable])
        if not value:
            raise SpecError(f"{variable} without a value", KINDS[kind].holds, "set it, or unset the variable")
        block = build(kind, name, value, environ)
        found[f"{block.get_block_type_slug()}/{name}"] = block
    return found


def sign(api: Api, name: str, block: Block) -> str:
    """Return `+` when the server has no such block, `~` when another one, `=` when this one."""
    slug, _, own = name.partition("/")
    there = api.get(f"/block_types/slug/{slug}/block_documents/name/{own}?include_secrets=true")
    if not there:
        return "+"
    wanted, known = _open(block.model_dump()), there["data"]
    wanted.pop("block_type_slug", None)  # Prefect's own dump adds it
    return "=" if all(known.get(field) == value for field, value in wanted.items()) else "~"


def _open(value: Any) -> Any:  # Any: a tree of a block's fields
    """Return the fields as the server keeps them, to compare in memory; nothing of it is ever shown."""
    if isinstance(value, SecretStr | SecretBytes) or hasattr(value, "get_secret_value"):
        return _open(value.get_secret_value())
    if isinstance(value, Mapping):
        return {key: _open(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_open(item) for item in value]
    return value


def _value(variable: str, text: str) -> str:
    if not variable.endswith("_FILE"):
        return text.strip()
    try:
        return Path(text).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as err:  # not text: the error holds the bytes
        raise SpecError(
            f"{variable}: {type(err).__name__}", "a readable text file", "correct the path"
        ) from None


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {PREFIX}{kind}_<NAME>  {how.holds}" for kind, how in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python deployments/blocks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"variables:\n{listed}\n\n<NAME> in capitals; ML_OPS becomes ml-ops.",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be made and change nothing")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
