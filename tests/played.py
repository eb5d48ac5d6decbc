"""Notification blocks that a test plays."""

from __future__ import annotations

import threading

import pytest

from tasks.messages import channels as kinds


class Channel:
    """A notification block that keeps, refuses or never finishes what it is given."""

    def __init__(self, trouble: Exception | threading.Event | None = None):
        self.trouble, self.got = trouble, []

    def notify(self, body: str, subject: str) -> None:
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if isinstance(self.trouble, threading.Event):
            self.trouble.wait(60)
        self.got.append((subject, body))

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.got]

    @property
    def firsts(self) -> list[str]:
        return [body.splitlines()[0] for _, body in self.got]


def play_channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    """Put four channels in place of the saved blocks and return them by name; no other name is known."""
    made = {name: Channel() for name in ("pagerduty/ops", "slack/ml", "teams/ml", "webhook/x")}

    def load(name: str) -> Channel:
        if name not in made:
            raise ValueError("Unable to find block document")
        return made[name]

    monkeypatch.setattr(kinds, "load", load)
    monkeypatch.setattr(kinds, "close_or_open", lambda block, slug, message: False)  # see test_channels
    return made
