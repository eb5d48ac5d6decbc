"""Load on a server: one body posted over and over on many connections, by wrk, or by asyncio without it."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  local e = summary.errors
  local form = '\\nFOUND {{"requests": %d, "seconds": %f, "errors": %d, "p50": %f, "p95": %f, "p99": %f}}\\n'
  io.write(string.format(form, summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Loaded:
    """What came of it; latencies in milliseconds, from the sent request to its whole answer."""

    tool: str
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int


def load(url: str, body: bytes, *, seconds: float, connections: int, scratch: Path) -> Loaded:
    """Return how the server bore it: every connection asks again as soon as it has its answer."""
    if shutil.which("wrk") is None:
        return asyncio.run(_own(url, body, seconds, connections))
    (scratch / "body.json").write_bytes(body)
    (scratch / "post.lua").write_text(_LUA.format(body=scratch / "body.json"))
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    done = subprocess.run(
        [*words, "-s", str(scratch / "post.lua"), url], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    found = json.loads(line.removeprefix("FOUND "))
    rate = found["requests"] / found["seconds"]
    return Loaded("wrk", rate, found["p50"], found["p95"], found["p99"], found["errors"])


async def _own(url: str, body: bytes, seconds: float, connections: int) -> Loaded:
    place = urlsplit(url)
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    took: list[float] = []
    errors = 0
    began = time.perf_counter()

    async def ask() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            while time.perf_counter() - began < seconds:
                start = time.perf_counter()
                writer.write(head.encode() + body)
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                size = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
                await reader.readexactly(size)
                took.append(time.perf_counter() - start)
                errors += b" 200 " not in lines[0] + b" "
        finally:
            writer.close()

    await asyncio.gather(*(ask() for _ in range(connections)))
    lasted = time.perf_counter() - began
    p50, p95, p99 = (1000 * _rank(took, share) for share in (0.5, 0.95, 0.99))
    return Loaded("own asyncio loader (no wrk here)", len(took) / lasted, p50, p95, p99, errors)


def _rank(took: list[float], share: float) -> float:
    found = sorted(took)
    return found[max(0, math.ceil(share * len(found)) - 1)] if found else math.nan
