"""`python -m serving --models demo`: serve champions on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

HOST = "127.0.0.1"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m serving",
        description="Serve the champions of these models on loopback; every answer is in the store first.",
    )
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME", help="registered model names")
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (default: 8000)")
    parser.add_argument(
        "--poll", type=float, default=1.0, metavar="SECONDS", help="how often to look for a new champion"
    )
    args = parser.parse_args(argv)
    import uvicorn

    from serving.app import create_app
    from tasks.settings import Settings

    app = create_app(args.models, Settings(), poll_seconds=args.poll)
    sys.stdout.write(f"serving {', '.join(args.models)} at http://{HOST}:{args.port}\n")
    uvicorn.run(app, host=HOST, port=args.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
