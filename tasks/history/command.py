"""The terminal's way to history: one question per command, answered as text or JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from tasks.clock import now_or
from tasks.core.errors import SpecError, StoreError, WorkflowError
from tasks.history import backfill, before, compare, janitor, options, reproduce, served, why
from tasks.history.answer import Answer, short
from tasks.history.past import Past, read_past
from tasks.settings import Settings
from tasks.store import checks, ledger
from tasks.store.engine import open_store

SCRIPT = "python flows/history.py"
_FORM = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=110)
_ALL = 100_000  # windows: more than a store holds of one model


@dataclass(frozen=True)
class Tools:
    """What the commands take from outside this room: how to train and refit, and the blocks of a file."""

    train: reproduce.Train
    refit: reproduce.Train
    blocks: Callable[[Path], Mapping[str, Any]]  # Any: a YAML tree


def run(argv: Sequence[str] | None, tools: Tools, *, settings: Settings | None = None) -> int:
    """Answer one command on standard output; return the exit code.

    0: answered; 1: a check that was asked for failed; 2: an error of this project, told in one line.
    """
    _environment()
    args = parser().parse_args(argv)
    try:
        answer = args.answer(args, settings or Settings(), tools)
    except SQLAlchemyError as err:
        return _told(
            StoreError(f"a store that fails ({type(err).__name__})", "one that answers", "run it again")
        )
    except WorkflowError as err:
        return _told(err)
    sys.stdout.write(answer.text(as_json=args.json))
    return 0 if answer.is_good else 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command, each with an example."""
    examples = "\n".join(f"  {SCRIPT} {one.example}" for one in COMMANDS)
    top = argparse.ArgumentParser(
        prog=SCRIPT,
        description="What served when, by whom and why; what versions are made of; what was left behind.",
        epilog=f"examples:\n{examples}\n\nexit codes: 0 answered, 1 a check failed, 2 an error in one line",
        formatter_class=_FORM,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for one in COMMANDS:
        added = commands.add_parser(
            one.name,
            help=one.about,
            description=f"{one.about[:1].upper()}{one.about[1:]}.",
            epilog=f"example:\n  {SCRIPT} {one.example}",
            formatter_class=_FORM,
        )
        if one.of_model:
            added.add_argument(
                "--model", required=True, help="key under definitions.models, or registered name"
            )
            added.add_argument("--config", help="YAML file with the model blocks (default: prefect.yaml)")
        added.add_argument("--json", action="store_true", help="the whole answer as JSON")
        one.adds(added)
        added.set_defaults(answer=one.answer)
    return top


def _served(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    return served.served(_past(args, settings, tools), now_or(args.at))


def _production(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    del args, tools
    return served.production(open_store(settings))


def _versions(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    return compare.versions(_past(args, settings, tools))


def _best(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    if args.last and (args.since or args.until):
        raise SpecError("--last beside --since or --until", "one way to say which period")
    past, now = _past(args, settings, tools), now_or(None)
    since, until = compare.last(args.last, now) if args.last else (args.since, args.until)
    measured = checks.recent(open_store(settings), past.model, "performance", _ALL, now)
    return compare.best(past, args.metric, since, until, realised=measured, limit=args.limit)


def _why(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    return why.why(_past(args, settings, tools), args.number, open_store(settings))


def _show(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    return why.show(_past(args, settings, tools), args.number, open_store(settings))


def _before(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    past = _past(args, settings, tools)
    found = before.last_before(
        ledger.history(open_store(settings), past.model), before.find_commit(args.commit)
    )
    data = {"model": past.model, "serving": past.serving, **vars(found)}
    commit = short(found.commit)
    if found.number is None:
        head = f"{past.model}: no version that served healthily is known to be made before {commit}"
    else:
        head = f"{past.model}: version {found.number} is the last that served and was made before {commit}"
    lines = [head, *(f"  passed over: {one}" for one in found.left_out)]
    if found.number == past.serving and found.number is not None:
        lines.append("it serves now; there is nothing to roll back")
    elif found.number is not None:
        command = f"python flows/rollback.py --model {args.model} --before-commit {args.commit}"
        lines += ["", f"version {past.serving} serves now; {command} shows what going back would change"]
    return Answer(data, tuple(lines), is_good=found.number is not None)


def _reproduce(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    model = _name(args, tools)
    return reproduce.reproduce(
        model, args.number, train=tools.train, refit=tools.refit, settings=settings, anyway=args.anyway
    )


def _backfill(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    return backfill.backfill(_name(args, tools), settings)


def _janitor(args: argparse.Namespace, settings: Settings, tools: Tools) -> Answer:
    return janitor.clean_up(_name(args, tools), settings, now=now_or(None), apply=args.apply)


@dataclass(frozen=True)
class Command:
    """One question: what it is about, an example, its options and what answers it."""

    name: str
    about: str
    example: str
    adds: Callable[[argparse.ArgumentParser], None]
    answer: Callable[[argparse.Namespace, Settings, Tools], Answer]
    of_model: bool = True


COMMANDS = (
    Command(
        "served",
        "which version served at a moment, who let it, on what data and code",
        "served --model demo --at 2026-01-31T12:00",
        options.at,
        _served,
    ),
    Command(
        "production",
        "which version of every model serves now",
        "production --json",
        options.nothing,
        _production,
        False,
    ),
    Command(
        "versions",
        "every version with its stage, promise, gate and code",
        "versions --model demo",
        options.nothing,
        _versions,
    ),
    Command(
        "best",
        "which versions of a period scored best on rows they had not learnt from",
        "best --model demo --metric roc_auc --last quarter",
        options.period,
        _best,
    ),
    Command(
        "why",
        "why a version was promoted, kept or refused, and what caused it",
        "why --model demo 12",
        options.number,
        _why,
    ),
    Command("show", "everything known of one version", "show --model demo 12", options.number, _show),
    Command(
        "before",
        "the last version that served and was made before a commit",
        "before --model demo abc1234",
        options.commit,
        _before,
    ),
    Command(
        "reproduce",
        "train a version again from its own rows, spec and code; are its answers equal?",
        "reproduce --model demo 12",
        options.anyway,
        _reproduce,
    ),
    Command(
        "backfill",
        "note versions that were registered before such facts were kept",
        "backfill --model demo",
        options.nothing,
        _backfill,
    ),
    Command(
        "janitor",
        "what dead processes left behind for longer than a day",
        "janitor --model demo --apply",
        options.apply,
        _janitor,
    ),
)


def _past(args: argparse.Namespace, settings: Settings, tools: Tools) -> Past:
    return read_past(open_store(settings), _name(args, tools))


def _name(args: argparse.Namespace, tools: Tools) -> str:
    """Return the registered name of the model: that of its block, or what was given where no block has it."""
    config = Path(args.config or "prefect.yaml")
    if not args.config and not config.is_file():
        return str(args.model)
    block = tools.blocks(config).get(args.model)
    return str(block.get("name", args.model)) if isinstance(block, dict) else str(args.model)


def _environment() -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    here = str(Path(sys.argv[0]).resolve().parent)
    if sys.path and sys.path[0] == here and Path(here).name == "flows":
        sys.path.pop(0)  # a module named like a flow must not hide a library's


def _told(err: WorkflowError) -> int:
    sys.stderr.write(f"{type(err).__name__}: {err}\n")
    return 2
