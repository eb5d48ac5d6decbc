"""`python -m serving --models demo`: serve champions on this machine."""

from __future__ import annotations

import argparse
import gc
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import SpecError, WorkflowError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from tasks.settings import Settings

EXAMPLE = """example:
  python -m serving.keys add shop --role predict
  curl -H "X-API-Key: $KEY" -H "Content-Type: application/json" http://127.0.0.1:8000/predict/churn \\
       -d '{"rows": [{"tenure": 12, "spend": 30.5, "plan": "basic", "region": "north"}]}'
A row may also carry its key and timestamp, by which a later label finds its prediction. While no key exists,
everything is open on loopback. A key of role label may only POST /labels/MODEL; /metrics, /dashboard and
whatever is not named here need a key of role admin."""
_SWITCH_SECONDS = 0.001
"""How long a thread computes while another waits: Python's own 5 ms are as long as a whole answer takes."""
_LAST_SECONDS = 20
"""What a request may take after the app was told to end; our choice."""
_FILES = 4096
"""Open files and connections of this process, at most; our choice."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m serving",
        description="Serve the champions of these models; every answer is in the store before it is given.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--models", nargs="+", metavar="NAME", help="registered model names")
    which.add_argument("--config", metavar="FILE", help="YAML file: every model below its definitions.models")
    parser.add_argument(
        "--host",
        default=LOOPBACK[0],
        help="beyond loopback at least one key is needed (python -m serving.keys)",
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--per-minute", type=int, default=0, metavar="N", help="requests one caller may make in a minute"
    )
    parser.add_argument(
        "--poll", type=float, default=1.0, metavar="SECONDS", help="how often to look for a new champion"
    )
    args = parser.parse_args(argv)
    from serving.app import create_app
    from tasks.settings import Settings

    place, is_local = Settings(), args.host in LOOPBACK
    try:
        if not is_local:
            _need_a_key(place)
        args.models = args.models or _models_in(Path(args.config))
        _need_a_port(args.host, args.port)
        app = create_app(
            args.models, place, poll_seconds=args.poll, open_without_keys=is_local, per_minute=args.per_minute
        )
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    _allow_connections()
    server = server_of(app, args.host, args.port)
    threading.Thread(target=_tell, args=(server, app, args), daemon=True).start()
    server.run()
    return 0


def server_of(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    """Return the server that this command runs, on uvloop and httptools where they are installed.

    It is made for even answers: threads hand over soon, and what the start left behind is never looked
    through for garbage again, which would stop every request for as long.
    """
    import uvicorn

    from serving.connections import protocol_of

    class Even(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)  # with it every model is loaded
            sys.setswitchinterval(_SWITCH_SECONDS)
            gc.collect()
            gc.freeze()

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_LAST_SECONDS,
        timeout_keep_alive=5,
        http=protocol_of(),
    )
    return Even(config)


def _allow_connections() -> None:
    """Let this process open as many as it answers at once and holds idle, where the system allows it."""
    with suppress(ImportError, OSError, ValueError):  # no such limit here, or a lower one for good
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _tell(server: uvicorn.Server, app: FastAPI, args: argparse.Namespace) -> None:
    """Say where the app is once it listens, and which model has nothing to answer with."""
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.05)
    lines = [f"serving {', '.join(args.models)} at http://{args.host}:{args.port} (docs at /docs)"]
    lines += [f"{one.name}: {one.trouble}" for one in app.state.service.holders.values() if one.trouble]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _need_a_port(host: str, port: int) -> None:
    """Return nothing when somebody may listen there.

    Raises:
        SpecError: when the port is taken, or is not ours to open.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as err:
            raise SpecError(
                f"port {port} of {host} that cannot be had ({err.strerror})",
                "a free port",
                "name another with --port",
            ) from err


def _models_in(path: Path) -> list[str]:
    """Return the names of the models that the file describes.

    Raises:
        SpecError: when it cannot be read, or describes none.
    """
    import yaml

    try:
        blocks = yaml.safe_load(path.read_text("utf-8"))["definitions"]["models"]
        return [str(block["name"]) for block in blocks.values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as err:
        raise SpecError(
            f"no models in {path.name} ({type(err).__name__})",
            "a YAML file with definitions.models",
            "name the models with --models, or correct the file",
        ) from err


def _need_a_key(place: Settings) -> None:
    from tasks.store.engine import open_store
    from tasks.store.keys import all_keys

    if all(key.revoked_at for key in all_keys(open_store(place))):
        raise SpecError(
            "no key of the serving app",
            "one, before anybody beyond this machine may ask",
            "python -m serving.keys add NAME, or serve on 127.0.0.1",
        )


if __name__ == "__main__":
    raise SystemExit(main())
