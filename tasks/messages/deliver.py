"""Sending what waits in `deliveries`: side by side, each once, and again later what failed."""

from __future__ import annotations

import contextvars
import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import httpx
from sqlalchemy.engine import Engine

from tasks.core.errors import WorkflowError
from tasks.core.messages import Message
from tasks.log import task_logger
from tasks.messages.channels import send
from tasks.messages.webhook import post_signed
from tasks.settings import Settings
from tasks.store import deliveries
from tasks.store.deliveries import GIVEN_UP, NO_ANSWER, Delivery

CHANNEL_SECONDS = 20.0
"""How long all channels together may take; they are told side by side, so that none waits for another."""
DEPLOYER = "deployer"
"""The channel of `deliveries` that is the signed webhook of this place."""
# Below these levels they log the addresses they ask, and the address of a webhook is its secret.
_DISCREET = {
    "httpx": logging.WARNING,
    "httpcore": logging.INFO,
    "apprise": logging.INFO,
    "urllib3": logging.INFO,
}
# Sent and refused, or never sent, are sure; with these the other side may have taken it.
_NO_ANSWER = (TimeoutError, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError)


@dataclass
class Sent:
    """What became of rows that were sent: their ids, and why those failed that did."""

    reached: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)


def send_rows(engine: Engine, rows: Iterable[Delivery], now: datetime, settings: Settings) -> Sent:
    """Send these rows, and return what became of them within `CHANNEL_SECONDS`.

    The rows of one channel go in their order and stop at the first that fails; channels do not wait for each
    other. A row is claimed first, so that another process sends none of them again. What failed waits for a
    later call; a channel that answers after the time limit is still noted.
    """
    for name, level in _DISCREET.items():
        logging.getLogger(name).setLevel(max(logging.getLogger(name).level, level))
    queues: dict[str, list[Delivery]] = defaultdict(list)
    for row in rows:
        queues[row.channel].append(row)
    jobs = [_Channel(engine, name, queue, now, settings) for name, queue in queues.items()]
    threads = [_started(job.work) for job in jobs]
    deadline = time.monotonic() + CHANNEL_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    sent = Sent()
    for job in jobs:
        job.stop(sent)
    return sent


class _Channel:
    """The rows of one channel, sent one after the other in a thread of their own."""

    def __init__(self, engine: Engine, name: str, rows: list[Delivery], now: datetime, settings: Settings):
        self.engine, self.name, self.rows, self.now, self.settings = engine, name, rows, now, settings
        self.lock, self.stopped = threading.Lock(), False
        self.current: Delivery | None = None
        self.sent = Sent()

    def work(self) -> None:
        """Send the rows until one fails or the time is over."""
        try:
            for row in self.rows:
                if self._begin(row) and not self._send(row):
                    return
        except Exception as err:  # the store's: the claim runs out, and the row is sent again
            task_logger(__name__).error("channel %s stopped: %s", self.name, type(err).__name__)

    def stop(self, into: Sent) -> None:
        """Let no further row begin, and add up what is known; a row still on its way got no answer."""
        with self.lock:
            self.stopped = True
            if self.current is not None:
                self._fail(self.current, NO_ANSWER)
            into.reached |= self.sent.reached
            into.failed |= self.sent.failed
            into.given_up |= self.sent.given_up

    def _begin(self, row: Delivery) -> bool:
        with self.lock:
            if self.stopped:
                return False
            why = deliveries.claim(self.engine, row, self.now)
            if why is None:
                self.current = row
                return True
            if why.startswith(GIVEN_UP):
                self._give_up(row, why)
            elif why:
                task_logger(__name__).info("%s: channel %s, %s: %s", row.model, self.name, row.topic, why)
        return False

    def _send(self, row: Delivery) -> bool:
        try:
            if self.name == DEPLOYER:
                post_signed(row.content, self.settings)
            else:
                send(self.name, Message.from_dict(row.content))
        except Exception as err:  # whatever a channel does, the others must be told
            with self.lock:
                if self.current is not None:
                    self._fail(row, kind_of(err))
            return False
        deliveries.delivered(self.engine, row, self.now)  # also when it came too late for the caller
        with self.lock:
            if self.current is None:
                return False
            self.current = None
            self.sent.reached.add(row.id)
        return True

    def _fail(self, row: Delivery, why: str) -> None:
        self.current = None
        self.sent.failed[row.id] = why
        task_logger(__name__).error("%s: channel %s was not reached: %s", row.model, self.name, why)
        if deliveries.failed(self.engine, row, self.now, why):
            self._give_up(row, f"{GIVEN_UP} after {deliveries.MOST_TRIES} tries")

    def _give_up(self, row: Delivery, why: str) -> None:
        self.sent.given_up.add(row.id)
        task_logger(__name__).critical(
            "%s: %s was never told to channel %s, %s; look at the block and tell them yourself",
            row.model, row.content.get("subject") or row.topic, self.name, why,
        )  # fmt: skip


def kind_of(err: Exception) -> str:
    """Return the kind of a failure without its text, which often holds an address that is a secret.

    Example:
        >>> kind_of(ValueError("POST https://hooks.example/T0/secret failed"))
        'ValueError'
    """
    if isinstance(err, WorkflowError):  # our own words
        return f"{type(err).__name__}: {err}"
    if isinstance(err, _NO_ANSWER):
        return NO_ANSWER
    status = getattr(getattr(err, "response", None), "status_code", None) or getattr(err, "smtp_code", None)
    if status is None and (found := re.search(r"error=(\d{3})\b", str(getattr(err, "log", "")))):
        status = int(found[1])  # what apprise logs
    if not isinstance(status, int):
        return type(err).__name__
    moved = ", a redirect, which is not followed" if 300 <= status < 400 and hasattr(err, "response") else ""
    return f"{type(err).__name__} {status}{moved}"


def _started(work: Callable[[], None]) -> threading.Thread:
    """Return a running thread that sees this run's context and never keeps the process from ending."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    return thread
