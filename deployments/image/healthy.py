"""Exit code 0 when the address in HEALTH_URL answers 200: what a container's health check runs."""

from __future__ import annotations

import os
import sys
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener


def is_healthy(url: str, timeout: float = 4) -> bool:
    """Return whether a GET gives 200; an address on this machine is asked without a proxy.

    Args:
        url: an http:// address of this container itself.
        timeout: seconds.
    """
    if not url.startswith("http://"):
        return False
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(0 if is_healthy(os.environ.get("HEALTH_URL", "")) else 1)
