"""`python -m serving.keys`: make, list and revoke the keys of the serving app."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

from tasks.core.errors import WorkflowError
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.keys import Role, all_keys, make_key, revoke_key


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked; return the exit code."""
    parser = argparse.ArgumentParser("python -m serving.keys", description=__doc__)
    todo = parser.add_subparsers(dest="todo", required=True)
    add = todo.add_parser("add", help="make a key and show it, once")
    add.add_argument("name", help="whose key it is")
    add.add_argument(
        "--role",
        choices=get_args(Role),
        default="predict",
        help="predict: ask for predictions; label: give labels; admin: everything; default: predict",
    )
    todo.add_parser("list", help="names, roles and dates; never keys")
    revoke = todo.add_parser("revoke", help="end a key; running apps notice within seconds")
    revoke.add_argument("name", help="whose key")
    args = parser.parse_args(argv)
    try:
        sys.stdout.write(_done(args, datetime.now(UTC)))
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    return 0


def _done(args: argparse.Namespace, now: datetime) -> str:
    engine = open_store(Settings())
    if args.todo == "add":
        return f"{make_key(engine, args.name, args.role, at=now)}\n"
    if args.todo == "revoke":
        was_good = revoke_key(engine, args.name, at=now)
        return f"{args.name}: revoked\n" if was_good else f"{args.name}: was revoked before\n"
    rows = [("name", "role", "made", "revoked")]
    rows += [(key.name, key.role, _day(key.made_at), _day(key.revoked_at)) for key in all_keys(engine)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "-"


if __name__ == "__main__":
    raise SystemExit(main())
