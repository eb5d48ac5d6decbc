"""Requests from several threads against an app that may die at any moment, and what it acknowledged."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tasks.settings import Settings

START_SECONDS = 240


class Load:
    """Threads that ask until the block ends; `kept` are the ids of all answers, `statuses` what came."""

    def __init__(self, url: str, *, rows: int, threads: int = 4, seed: int = 0):
        self.kept: set[str] = set()
        self.doubled = 0
        self.statuses: Counter[int] = Counter()
        self._url, self._rows, self._over = url, rows, threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(seed + place,), daemon=True) for place in range(threads)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        client = httpx.Client(base_url=self._url, timeout=60, trust_env=False)
        while not self._over.is_set():
            rows = [_row(rng) for _ in range(rng.integers(1, self._rows + 1))]
            try:
                given = client.post("/predict/churn", json={"rows": rows})
                answer = given.json()
            except (httpx.HTTPError, ValueError):
                client.close()  # the app is gone: what was asked was not answered
                self._over.wait(0.05)
                client = httpx.Client(base_url=self._url, timeout=60, trust_env=False)
                continue
            with self._lock:
                self.statuses[given.status_code] += 1
                if given.status_code == 200:
                    ids = {f"{answer['request_id']}/{place}" for place in range(len(answer["answers"]))}
                    self.doubled += len(ids & self.kept)
                    self.kept |= ids
            if given.status_code != 200:
                self._over.wait(0.02)
        client.close()


class Child:
    """`python -m serving` in a process of its own, on a port that stays the same over restarts."""

    def __init__(self, place: Settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = place.root / "app.log"
        self._environment = {
            "EVERGREEN_STATE_DIR": str(place.state_dir),
            "EVERGREEN_STORE": place.store_url,
            "EVERGREEN_THREADS": "1",
        }
        # Forked from a process that has imported everything: else each start takes seconds.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["serving.app", "uvicorn", "mlflow", "tests.faults.retraining", "sklearn.ensemble"]
        )
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        """Return once it answers."""
        argv = ["--models", "churn", "--port", str(self.port)]
        self._process = self._context.Process(target=_serve, args=(self._environment, argv, str(self.log)))
        self._process.start()
        until(self._is_ready, START_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would; nothing when it runs no more."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, how)
        self._process.join(60)
        self._process = None

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.is_alive(), f"the app ended: {self.log.read_text()[-2000:]}"
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200
        return False


class Cut:
    """A way to a database's socket that can be cut: a socket of the same name in a folder of its own."""

    def __init__(self, target: Path, folder: Path):
        self._target, self._path = target, folder / target.name
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()

    def join(self) -> None:
        """Let connections through from now on."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection, in the middle of whatever it says, and let no new one through."""
        if self._listener is not None:
            self._path.unlink()
            _shut(self._listener)
            self._listener = None
        with self._lock:
            found, self._open = self._open, []
        for one in found:
            _shut(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._target))
            with self._lock:
                self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


@contextmanager
def ended(child: Child) -> Iterator[Child]:
    """Give the child, started, and stop it with the block."""
    child.start()
    try:
        yield child
    finally:
        child.stop()


def _serve(environment: Mapping[str, str], argv: list[str], log: str) -> None:
    """`python -m serving`, in a process that knows the modules already."""
    os.environ.update(environment)
    with Path(log).open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    from serving.__main__ import main

    main(argv)


def _row(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "tenure": float(rng.gamma(2.0, 12.0)),
        "spend": float(rng.lognormal(3.0, 0.6)),
        "plan": str(rng.choice(["basic", "pro", "team"])),
        "region": str(rng.choice(["north", "south"])),
    }


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(target)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
