"""A client of many connections, as a program of its own: ``python -m asv_benchmarks.peers.node_load FILE``.

FILE has the address, the number of connections, the seconds, and the requests to choose from, each with its weight.
With `begin` (by ``time.time``) and `slice_s` it also tells how many requests were answered in each slice of time.
Requests are encoded beforehand, so that the client's own cost is small and the same for every server.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any


class Client(asyncio.Protocol):
    """One connection: a request, its reply, the next request."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._data = bytearray()
        self._transport: Any = None
        self._sent = 0.0
        self._kind = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._load.over:
            self._transport.close()
            return
        self._kind, request = self._load.choose()
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        top = bytes(self._data[:head]).lower()
        at = top.find(b"content-length:")
        if at >= 0:
            size = int(top[at + 15 :].split(b"\r\n", 1)[0])
            done = len(self._data) >= head + 4 + size
        else:
            done = self._data.endswith(b"0\r\n\r\n")
        if done:
            self._load.took(self._kind, int(self._data[9:12]), time.perf_counter() - self._sent)
            self._data.clear()
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.over:
            self._load.broken += 1
            self._load.reopen()


class Load:
    """What all connections share."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._requests = [[self._encoded(each) for each in kind["requests"]] for kind in spec["kinds"]]
        self._weights = [kind["weight"] for kind in spec["kinds"]]
        self._random = random.Random(1)
        self._kinds = range(len(self._requests))
        slice_s = spec.get("slice_s")
        self._slices = [0] * int(spec["seconds"] / slice_s + 1) if slice_s else []
        self.over = False
        self.broken = 0
        self.times: list[float] = []
        self.statuses: dict[int, int] = {}

    def _encoded(self, request: dict[str, Any]) -> bytes:
        body = request.get("body", "").encode()
        lines = [f"{request['method']} {request['path']} HTTP/1.1", f"Host: {self._spec['host']}:{self._spec['port']}",
                 *self._spec["headers"], f"Content-Length: {len(body)}"]  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode() + body

    def choose(self) -> tuple[int, bytes]:
        kind = self._random.choices(self._kinds, self._weights)[0]
        return kind, self._random.choice(self._requests[kind])

    def took(self, kind: int, status: int, seconds: float) -> None:
        self.times.append(seconds)
        if self._slices and (at := time.time() - self._spec["begin"]) >= 0:
            self._slices[min(int(at / self._spec["slice_s"]), len(self._slices) - 1)] += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def reopen(self) -> None:
        asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: Client(self), self._spec["host"], self._spec["port"])
        except OSError:
            self.broken += 1

    async def run(self) -> dict[str, Any]:
        for _ in range(self._spec["connections"]):
            await self._open()
        if "begin" in self._spec:
            await asyncio.sleep(max(0.0, self._spec["begin"] - time.time()))
        warm = len(self.times)
        begun = time.perf_counter()
        await asyncio.sleep(self._spec["seconds"])
        self.over = True
        seconds = time.perf_counter() - begun
        times = sorted(self.times[warm:])
        return {
            "requests": len(times), "per_s": len(times) / seconds, "p50_ms": 1e3 * times[len(times) // 2],
            "p99_ms": 1e3 * times[int(len(times) * 0.99)], "statuses": self.statuses, "broken": self.broken,
            "max_ms": 1e3 * times[-1], "slices": self._slices,
        }  # fmt: skip


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(asyncio.run(Load(spec).run())))


if __name__ == "__main__":
    main()
