"""One life of a process that works on a volume while its disk is recorded: the child of the crash tests.

Run as ``python -m vexfs.testing.session PLAN``, with a plan as `Plan.dumps` writes it.  It ends without closing the
volume unless the plan says so: what it leaves behind is what a killed process leaves behind.
"""

import errno
import json
import os
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vexfs._core import io
from vexfs._core.fs import Filesystem
from vexfs.testing.workload import SHARED, Actor, Workload, differences, fingerprint, mine, read_state

MARK = struct.Struct("<cBI")  # b"S" begins, b"D" is done; workload; operation
KEY = bytes(range(32))
SMALL: dict[str, Any] = {
    "segment_size": 256 << 10, "dirty_limit": 512 << 10, "commit_ops": 12, "commit_delay_ms": 4, "cache_size": 1 << 20,
    "atime": "noatime", "inode_cache": 256, "log_limit": 256 << 10,
}  # fmt: skip


@dataclass
class Plan:
    """What to do, on what.

    `past` gives the lives before this one, oldest first: ``(seed, operations behind it that survived)``.  `stop` is how
    many operations each thread carries out; `ending` is ``exit`` or ``close``.  With `progress`, a file, the marks go
    there and nothing is recorded: this life is to be ended by a signal.
    """

    volume: str
    trace: str
    seed: int
    stop: int
    past: list[tuple[int, int]] = field(default_factory=list)
    threads: int = 1
    ending: str = "exit"
    encrypted: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    progress: str = ""

    def dumps(self) -> str:
        """As the argument of the child."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Plan":
        """What `dumps` wrote."""
        return cls(**json.loads(text))

    def open(self, **more: Any) -> Filesystem:
        """The plan's volume."""
        key = KEY if self.encrypted else None
        return Filesystem(self.volume, meta_key=key, data_key=key, **{**SMALL, **self.options, **more})

    def replay(self, thread: int, upto: int) -> Iterator[Workload]:
        """The workload of a thread after each of its operations, from none to `upto`, through all lives."""
        load = Workload(self.past[0][0] if self.past else self.seed, thread, self.threads == 1)
        yield load
        later = [*(seed for seed, _ in self.past[1:]), self.seed]
        for (_, end), following in zip(self.past, later, strict=False):
            while load.now < min(end, upto):
                load.advance(load.draw())
                yield load
            load.reseed(following)
        while load.now < upto:
            load.advance(load.draw())
            yield load

    def workloads(self) -> list[Workload]:
        """A workload for each thread, at the state with which this life begins."""
        start = self.past[-1][1] if self.past else 0
        return [deque(self.replay(thread, start), maxlen=1)[0] for thread in range(self.threads)]


def make_volume(plan: Plan) -> None:
    """An empty volume with the one directory that all workloads share, closed again."""
    Path(plan.volume, "segments").mkdir(parents=True)
    owner = (os.geteuid(), os.getegid())
    with_root = plan.open(create=True, owner=owner)
    with_root.mkdir(SHARED, 0o755)
    with_root.close()


def work(fs: Any, load: Workload, thread: int, count: int, mark: Any, failures: list[str]) -> Actor:
    """Carry `count` operations out on both filesystems; what they answer must be alike."""
    actor = Actor(fs)
    for _ in range(count):
        if failures:
            break
        operation, number = load.draw(), load.now
        mark(MARK.pack(b"S", thread, number))
        answer = actor.run(operation)
        mark(MARK.pack(b"D", thread, number))
        expected = load.advance(operation)
        if answer[0] != expected[0] or (operation.name == "read" and answer != expected):
            args = [a if not isinstance(a, bytes) or len(a) < 300 else a[:40] for a in operation.args]
            failures.append(
                f"operation {number} of workload {thread}, {operation.name}{args}: errno {answer[0]}, "
                f"expected {expected[0]}" + ("; other bytes" if answer[0] == expected[0] else "")
            )
    return actor


def live(plan: Plan) -> list[str]:
    """Live one life as planned; what went wrong."""
    failures: list[str] = []
    loads = plan.workloads()
    mark: Callable[[bytes], object] = io.record_mark
    if plan.progress:
        told = os.open(plan.progress, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        mark = lambda data: os.write(told, data)  # noqa: E731
    else:
        io.record_start(plan.trace, plan.volume)
    fs = plan.open()
    if plan.past:
        expected = loads[0].state()
        found = read_state(fs)
        if fingerprint(found) != fingerprint(expected):
            return ["reopened in another state:", *differences(found, expected)]
    threads = [
        threading.Thread(target=work, args=(fs, load, k, plan.stop, mark, failures))
        for k, load in enumerate(loads[1:], 1)
    ]
    for thread in threads:
        thread.start()
    work(fs, loads[0], 0, plan.stop, mark, failures)
    for thread in threads:
        thread.join()
    if not failures:
        found = read_state(fs)
        for load in loads:
            own = {path: line for path, line in found.items() if mine(path, load.prefix)}
            failures += differences(own, load.state())
    if plan.ending == "close":
        fs.close()
    elif not plan.progress:  # nothing reaches the disk any more: the committer may be at work until the process is gone
        io.fault([kind for kind in io.KINDS if kind not in ("read", "close", "mark")], 0, errno.EIO)
    if not plan.progress:
        io.record_stop()
    return failures


def main() -> None:
    """Read the plan, live, tell, and be gone at once."""
    os.umask(0o022)
    failures = live(Plan.loads(sys.argv[1]))
    print("\n".join(failures), flush=True)
    os._exit(1 if failures else 0)


if __name__ == "__main__":
    main()
