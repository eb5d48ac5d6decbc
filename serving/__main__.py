"""`python -m serving --models demo`: serve champions on this machine."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
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
everything is open on loopback; /metrics and whatever is not named here need a key of role admin."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m serving",
        description="Serve the champions of these models; every answer is in the store before it is given.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME", help="registered model names")
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
    import uvicorn

    from serving.app import create_app
    from tasks.settings import Settings

    place, is_local = Settings(), args.host in LOOPBACK
    try:
        if not is_local:
            _need_a_key(place)
        app = create_app(
            args.models, place, poll_seconds=args.poll, open_without_keys=is_local, per_minute=args.per_minute
        )
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    config = uvicorn.Config(app, host=args.host, port=args.port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    threading.Thread(target=_tell, args=(server, app, args), daemon=True).start()
    server.run()
    return 0


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
