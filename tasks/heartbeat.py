"""Silence made audible: a sign of life that others watch, and a watch over the runs on record.

`python -m tasks.heartbeat --max-age 3h` exits with 1 and names every model whose monitor has been silent for
longer; for cron or a Kubernetes CronJob, on another machine than the one that runs the flows where possible.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.errors import SpecError, WorkflowError
from tasks.core.hosts import on_this_host
from tasks.core.messages import in_words
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.deadline import NoAnswer, within
from tasks.store.engine import open_store
from tasks.store.silence import last_heard

SECONDS = 5.0
"""How long a sign of life may take in all, whatever the other side or its name server does."""
_LATE = timedelta(days=1)
_GET_INSTEAD = {404, 405, 501}


@task(retries=0, timeout_seconds=60, cache_policy=NO_CACHE)
def beat(spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None) -> bool:
    """Return True when this place's watcher took the sign that the model was looked after.

    It gets a POST with the model and the moment as JSON, or a GET where it takes none, at the address in
    `EVERGREEN_HEARTBEAT`. Nothing here fails a run: what went wrong is a line in the log, without the
    address, which is often a secret. There is no second try, for the watcher's patience is its own. A run
    that acts as of a moment over a day away from the clock is no sign of life and is not sent.
    """
    place, log = settings or Settings(), task_logger(__name__)
    if not place.heartbeat:
        return False
    if abs(now_or(None) - utc(as_of)) > _LATE:
        log.info("%s: no sign of life for %s, which is not now", spec.name, utc(as_of).isoformat())
        return False
    said = _within(
        SECONDS, place.heartbeat.get_secret_value(), {"model": spec.name, "at": utc(as_of).isoformat()}
    )
    if said:
        log.error("%s: nobody took the sign of life: %s", spec.name, said)
        return False
    log.info("%s: told the watcher of %s", spec.name, utc(as_of).isoformat())
    return True


def silent(
    place: Settings,
    flow: str,
    max_age: timedelta,
    *,
    as_of: datetime,
    models: Sequence[str] = (),
    without: Sequence[str] = (),
) -> list[str]:
    """Return a sentence on each model whose flow was silent for longer than `max_age`.

    All models with a run on record are watched, or those in `models`; where there is none, that is silence
    too, for a watch over nothing would never call.
    """
    heard = last_heard(open_store(place), flow)
    watched = [name for name in models or sorted(heard) if name not in without]
    found = []
    for model in watched:
        newest = heard.get(model)
        if newest is None:
            why = "every run on record failed" if model in heard else "no run is on record"
            found.append(f"{model}: {flow} never ended well: {why}")
        elif utc(as_of) - newest > max_age:
            found.append(
                f"{model}: {flow} has been silent for {in_words(utc(as_of) - newest)},"
                f" since {newest:%Y-%m-%d %H:%M} UTC"
            )
    return found if watched else [f"no run of {flow} is on record for any model that is watched"]


def main(argv: Sequence[str] | None = None) -> int:
    """Say which models were silent; return 1 where there are any or that cannot be told, else 0."""
    parser = argparse.ArgumentParser(
        "python -m tasks.heartbeat", description="Exit with 1 when a model's monitor has been silent."
    )
    parser.add_argument("--max-age", default="3h", help="longest silence, for example 3h (default: 3h)")
    parser.add_argument("--flow", default="monitor", help="the flow that has to run (default: monitor)")
    parser.add_argument("--model", action="append", default=[], help="watch only this one; may be repeated")
    parser.add_argument(
        "--without", action="append", default=[], metavar="MODEL", help="do not watch this one"
    )
    args = parser.parse_args(argv)
    try:
        found = silent(
            Settings(), args.flow, parse_duration(args.max_age),
            as_of=now_or(None), models=args.model, without=args.without,
        )  # fmt: skip
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 1
    sys.stdout.writelines(f"{line}\n" for line in found or [f"every {args.flow} was heard of"])
    return 1 if found else 0


def _within(seconds: float, address: str, content: dict[str, str]) -> str:
    """Return why nobody took the content in time; empty when somebody did."""
    try:
        return within(seconds, lambda: _send(_checked(address), content, seconds))
    except (SpecError, NoAnswer) as err:
        return str(err)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as err:
        return type(err).__name__  # its text holds the address


def _send(address: str, content: dict[str, str], seconds: float) -> str:
    with httpx.Client(timeout=seconds, follow_redirects=False) as client:
        status = _status(client, "POST", address, content)
        if status in _GET_INSTEAD:
            status = _status(client, "GET", address, None)
    return "" if 200 <= status < 300 else f"it answered {status}"


def _status(client: httpx.Client, method: str, address: str, content: dict[str, str] | None) -> int:
    headers = {"User-Agent": "Evergreen"}
    with client.stream(method, address, json=content, headers=headers) as answer:
        return answer.status_code  # what it says is not read


def _checked(address: str) -> str:
    todo = "set EVERGREEN_HEARTBEAT to an https:// address"
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        raise SpecError("a watcher's address that is no URL", "https://host/path", todo) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise SpecError("a watcher's address that is no URL", "https://host/path", todo)
    if parts.scheme == "http" and not on_this_host(host):
        raise SpecError(
            "a watcher that is told without encryption", "https://, or http:// on this host", todo
        )
    return address


if __name__ == "__main__":
    sys.exit(main())
