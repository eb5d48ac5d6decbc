"""What the commands of history may be told, and what of it is refused before anything is read."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import get_args

from tasks.core.errors import SpecError
from tasks.history import compare


def at(added: argparse.ArgumentParser) -> None:
    """Let a moment be named."""
    added.add_argument(
        "--at", type=_time, metavar="TIME", help="the moment, UTC unless it says (default: now)"
    )


def period(added: argparse.ArgumentParser) -> None:
    """Let a metric and a period be named."""
    added.add_argument("--metric", required=True, help="a scorer's name, e.g. roc_auc")
    added.add_argument("--since", type=_time, metavar="TIME", help="created at or after")
    added.add_argument("--until", type=_time, metavar="TIME", help="created before")
    added.add_argument("--last", choices=get_args(compare.Period), help="the last whole calendar period")
    added.add_argument("--limit", type=_positive, default=10, help="how many to show (default: 10)")


def number(added: argparse.ArgumentParser) -> None:
    """Ask for a version's number."""
    added.add_argument("number", type=_positive, metavar="NUMBER", help="which version")


def commit(added: argparse.ArgumentParser) -> None:
    """Ask for a commit."""
    added.add_argument("commit", metavar="COMMIT", help="hash or tag of the commit that is to be undone")


def anyway(added: argparse.ArgumentParser) -> None:
    """Ask for a version's number, and whether other code than then will do."""
    number(added)
    added.add_argument(
        "--anyway", action="store_true", help="even with other code, lock or libraries than then"
    )


def apply(added: argparse.ArgumentParser) -> None:
    """Let what is shown be done."""
    added.add_argument("--apply", action="store_true", help="do it; otherwise it is only shown")


def nothing(added: argparse.ArgumentParser) -> None:
    """Leave the command as it is."""
    del added


def _time(text: str) -> datetime:
    try:
        return compare.moment(text)
    except SpecError as err:
        raise argparse.ArgumentTypeError(f"{text!r} is not {err.expected}") from err


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:18]) < 2**31:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 1")
    return int(text)
