"""The terminal's way into a flow: options made from the flow's own parameters."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from prefect import Flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

import tasks.aws  # noqa: F401 -- every flow imports this module, and so can load the block of EVERGREEN_AWS
from tasks.core.errors import SpecError, WorkflowError
from tasks.core.spec import ModelSpec
from tasks.foreign import in_one_line
from tasks.run_state import outcome_of, sentence_of
from tasks.specfile import load_spec

Handler = Callable[[ModelSpec, argparse.Namespace], None]


def run_flow(
    flow: Flow[..., Any], argv: Sequence[str] | None = None, *, quiet: bool = False, **extra: Handler
) -> int:
    """Run a flow whose first parameter is the spec, with options from its signature; return the exit code.

    `extra` adds flags (`infer_contract=handler` becomes `--infer-contract`) that do something else with the
    spec instead of running the flow. Errors of this project are one line and exit code 2, any other error is
    one line with the number of a report and exit code 3; an interrupt says that nothing is lost, exit code
    130. `quiet` leaves out the runs' own log lines, for a flow that shows
    its progress itself; PREFECT_LOGGING_LEVEL brings them back.
    """
    quiet_environment()
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
    if quiet and "PREFECT_LOGGING_LEVEL" not in os.environ:
        _only_warnings()
    args = parser_for(flow, extra).parse_args(argv)
    try:
        overrides = dict(_pair(item) for item in args.set)
        spec = load_spec(args.model, Path(args.config), overrides=overrides)
        for flag, handler in extra.items():
            if getattr(args, flag):
                handler(spec, args)
                return 0
        names = [name for name in inspect.signature(flow.fn).parameters if name != "spec"]
        # Heartbeats are for runs that others watch; each costs a run that is over a second of waiting.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if quiet else {}):
            state = flow(spec, **{name: getattr(args, name) for name in names}, return_state=True)
        state.result()  # raises what the run raised
        if state.message and not quiet:
            sys.stdout.write(f"{outcome_of(state)}: {sentence_of(state)}\n")
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    except Exception as err:  # the outermost handler: whatever it is, people get a line they can pass on
        sys.stderr.write(f"{in_one_line(err)}\n")
        return 3
    except KeyboardInterrupt:
        again = "starts it anew" if quiet else "goes on from there"
        sys.stderr.write(f"stopped; what was recorded is kept, the same command {again}\n")
        return 130
    return 0


def parser_for(flow: Flow[..., Any], extra: dict[str, Handler] | None = None) -> argparse.ArgumentParser:
    """Return a parser with `--model`, `--config`, `--set` and one option per scalar parameter of the flow."""
    doc = inspect.getdoc(flow.fn) or ""
    parser = argparse.ArgumentParser(
        prog=f"python flows/{Path(inspect.getfile(flow.fn)).name}",
        description=doc.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="key of the model under definitions.models")
    parser.add_argument("--config", default="prefect.yaml", help="YAML file with the model blocks")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="replace a field of the block"
    )
    hints = get_type_hints(flow.fn)
    descriptions = flow.parameters.properties
    for name, parameter in inspect.signature(flow.fn).parameters.items():
        if name != "spec":
            text = " ".join(str(descriptions[name].get("description", "")).split())
            _add_option(parser, name, hints[name], parameter.default, text)
    for flag, handler in (extra or {}).items():
        parser.add_argument(
            f"--{flag.replace('_', '-')}", action="store_true", help=(handler.__doc__ or "").split("\n")[0]
        )
    return parser


def quiet_environment() -> None:
    """Switch usage reports of the libraries off for this process and its children."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    here = str(Path(sys.argv[0]).resolve().parent)
    if sys.path and sys.path[0] == here and Path(here).name == "flows":
        sys.path.pop(0)  # a module named like a flow must not hide a library's


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let an error be one line: of this project as it is, of others with the number of its report."""
    err = record.exc_info[1] if record.exc_info else None
    if err is None:
        return True
    if not isinstance(err, WorkflowError) and isinstance(err, Exception):
        record.msg, record.args = in_one_line(err), ()
    record.exc_info, record.exc_text = None, None
    return True


def _only_warnings() -> None:
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_option(parser: argparse.ArgumentParser, name: str, hint: object, default: object, text: str) -> None:
    option = f"--{name.replace('_', '-')}"
    kind = next((item for item in get_args(hint) if item is not type(None)), hint)
    if get_origin(hint) is Literal:
        parser.add_argument(option, choices=get_args(hint), default=default, help=text)
    elif kind is bool:
        parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default, help=text)
    elif kind is datetime:
        parser.add_argument(option, type=_moment, default=default, metavar="TIME", help=text)
    else:
        parser.add_argument(option, type=kind, default=default, help=text)  # type: ignore[arg-type]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-01-31T12:00+00:00") from err
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _pair(item: str) -> tuple[str, str]:
    field, sep, value = item.partition("=")
    if not sep:
        raise SpecError(f"--set {item!r}", "FIELD=VALUE", "write for example --set window.check=7d")
    return field, value
