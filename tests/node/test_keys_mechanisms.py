"""Every key of [performance_optimizations] and [storage]: what it changes in the work of an open node."""

import os
import time

import numpy as np
import pytest

from tests.node.keyed import Case, named, opened
from tests.waiting import until
from vexfs._core.simd import Simd, levels

MEBIBYTE = 1 << 20
KIND = 7


def above(least):
    return lambda saw: saw > least


# -- pools


def pool_acquires(node):
    """Buffers that one write took."""

    def acquires():
        return sum(tier["acquires"] for tier in node.pool.stats()["tiers"].values())

    before = acquires()
    node.volume.write_bytes("written", b"x" * 100_000)
    return acquires() - before


def beyond_the_count(tier, size, asked):
    """How many of `asked` buffers a tier's count did not serve."""

    def look(node):
        def beyond():
            stats = node.pool.stats()["tiers"][tier]
            return stats["misses"] + stats["recycled"]

        before = beyond()
        held = [node.pool.acquire(size) for _ in range(asked)]
        more = beyond() - before
        for buffer in held:
            buffer.release()
        return more

    return look


def pool_verdict(node):
    """What the pools' figures are held against."""
    (told,) = list_of(node.call("performance.pools.hit_rates", {}))
    return told["target"]


def list_of(steps):
    """The result of a verb."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return [end.value]


# -- kernels


def alike(node):
    """The levels whose sums come out as the node's own do, to the last bit."""
    rows = np.random.default_rng(0).normal(size=(50, 387)).astype(np.float32)

    def sums(simd):
        return simd.one_to_many(rows[0], rows, "dot").tobytes()

    return {level for level, state in levels().items() if state == "ready" and sums(Simd(level)) == sums(node.simd)}


def kernel_calls(node):
    """Calls for 1000 rows."""
    rows = np.ones((1000, 16), np.float32)
    before = node.simd.counters()["calls"]
    node.simd.one_to_many(rows[0], rows, "dot")
    return node.simd.counters()["calls"] - before


# -- stack


def reading(node):
    """What the stack account and the pools see of ten reads of a stored file."""
    if not node.volume.exists("stored"):
        node.volume.write_bytes("stored", os.urandom(100_000))
        node.volume.sync()
    filesystem = node.volume.filesystem
    ino = filesystem.resolve("stored")
    filesystem.read(ino, 4096, 0)
    node.volume.sync()  # that it was read, too: nothing is left that would be written meanwhile

    def now():
        small = node.pool.stats()["tiers"]["small"]["acquires"]
        return small, node.frames.stats()

    acquires, before = now()
    for _ in range(10):
        filesystem.read(ino, 4096, 0)
    more, after = now()
    grown = {name: after[name] - before[name] for name in ("count", "violations", "pooled")}
    return {"acquires": more - acquires, **grown}


def saw(**wanted):
    return lambda seen: all(seen[name] == n for name, n in wanted.items())


# -- bridge


def through_the_bridge(node):
    """Changes of one write that were handed over by the bridge."""
    node.volume.write_text("a", "x")
    return node.bridge is not None and node.bridge.stats()["enqueued"] > 0


def handed_over(node):
    """The batches that 300 items come in which had to wait, a third of each priority."""
    found = []
    node.bridge.stop()
    node.bridge.handler(KIND, found.append)
    for key in range(300):
        node.bridge.enqueue(key, key % 3, KIND, key % 3)
    node.bridge.start()
    node.bridge.barrier(10)
    return found


def batches(node):
    """The largest batch."""
    return max(len(items) for items in handed_over(node))


def share_of_high(node):
    """Of the first 100 items, those of high priority."""
    return [arg for items in handed_over(node) for _, arg in items][:100].count(0)


def waits_s(node):
    """How long a lone item waits, at least, of three: on a busy machine one or another waits for the processor."""
    return min(waited_s(node) for _ in range(3))


def waited_s(node):
    """How long a lone item waited."""
    told = []
    node.bridge.stop()
    node.bridge.handler(KIND, lambda items: told.append(time.monotonic()))
    node.bridge.start()
    node.bridge.barrier(10)
    began = time.monotonic()
    node.bridge.enqueue(1, 0, KIND)
    while not told:
        time.sleep(0.005)
    return told[0] - began


# -- storage


def misses_of_the_second_reading(node):
    """Frames of 8 MiB that have to be read again when they were read just now."""
    filesystem = node.volume.filesystem
    node.volume.write_bytes("big", os.urandom(8 * MEBIBYTE))
    node.volume.sync()
    filesystem.drop_caches()
    node.volume.read_bytes("big")
    before = filesystem.status()["data_misses"]
    node.volume.read_bytes("big")
    return filesystem.status()["data_misses"] - before


def read_ahead(node):
    """Frames that were read ahead of a sequential reader."""
    filesystem = node.volume.filesystem
    node.volume.write_bytes("long", os.urandom(4 * MEBIBYTE))
    node.volume.sync()
    filesystem.drop_caches()
    before, ino = filesystem.status()["prefetches"], filesystem.resolve("long")
    ahead = lambda: filesystem.status()["prefetches"] - before
    for at in range(0, 4 * MEBIBYTE, 65536):
        filesystem.read(ino, 65536, at)
        if at == MEBIBYTE and node.settings.storage.prefetch_size:
            until(lambda: ahead() > 5)  # a reader who does not wait may be ahead of them
    return ahead()


def threads_of_the_volume(node):
    """Threads that end with the volume."""
    before = len(os.listdir("/proc/self/task"))
    node.close()
    gone = lambda: before - len(os.listdir("/proc/self/task"))  # whoever joined one is told a moment before it is gone
    until(lambda: gone() > node.settings.storage.io_queue_depth)
    return gone()


def past_the_page_cache(node):
    """Whether every open file of segments goes past the host's page cache."""
    node.volume.write_bytes("a", b"x" * 100_000)
    node.volume.sync()
    flags = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if str(node.data_dir / "volume.vex/segments") in os.readlink(f"/proc/self/fd/{fd}"):
                with open(f"/proc/self/fdinfo/{fd}") as file:
                    flags.append(int(next(line for line in file if line.startswith("flags")).split()[1], 8))
        except FileNotFoundError:
            pass
    assert flags
    return all(each & os.O_DIRECT for each in flags)


def stored_bytes(node):
    """What a megabyte of repetition takes on the disk."""
    before = node.volume.filesystem.status()["disk_bytes"]
    node.volume.write_bytes("again", b"always the same " * 65536)
    node.volume.sync()
    return node.volume.filesystem.status()["disk_bytes"] - before


def readable_on_the_disk(node):
    """Whether a name and a content stand on the disk as they are."""
    node.volume.write_text("a-name-to-find", "a content to find" * 20)
    node.volume.sync()
    raw = b"".join(p.read_bytes() for p in (node.data_dir / "volume.vex").rglob("*") if p.is_file())
    return b"a-name-to-find" in raw or b"a content to find" in raw


def key_file_made(node):
    """Which of the two key files is there."""
    return sorted(p.name for p in node.data_dir.parent.glob("key*"))


def segments_are_here(node):
    """Whether the segments lie in a directory of this host."""
    return (node.data_dir / "volume.vex/segments").is_dir()


P = "performance_optimizations"
CASES = [
    Case(f"{P}.enable_tiered_memory_pools", ("true", "false"), pool_acquires, (above(20), 0)),
    Case(f"{P}.small_buffer_count", ("128", "300"), beyond_the_count("small", 1000, 320),
         (above(150), lambda n: n < 60)),
    Case(f"{P}.medium_buffer_count", ("64", "300"), beyond_the_count("medium", 4000, 320),
         (above(220), lambda n: n < 60)),
    Case(f"{P}.large_buffer_count", ("32", "100"), beyond_the_count("large", 16000, 120),
         (above(70), lambda n: n < 40)),
    Case(f"{P}.pool_hit_rate_target", ("0.9", "0.5"), pool_verdict, (0.9, 0.5)),
    Case(f"{P}.simd_batch_size", ("1024", "10"), kernel_calls, (1, 100)),
    Case(f"{P}.fuse_stack_limit", ("3072", "256"), reading, (saw(violations=0), saw(violations=10)),
         (f"{P}.heap_threshold=0",)),
    Case(f"{P}.heap_threshold", ("1024", "0"), reading, (saw(acquires=0, pooled=0), saw(acquires=10, pooled=10))),
    Case(f"{P}.enable_stack_optimization", ("true", "false"), reading,
         (saw(acquires=10, count=10), saw(acquires=0, count=0)), (f"{P}.heap_threshold=0",)),
    Case(f"{P}.enable_stack_monitoring", ("true", "false"), reading,
         (saw(acquires=10, count=10, pooled=10), saw(acquires=10, count=0, pooled=0)), (f"{P}.heap_threshold=0",)),
    Case(f"{P}.enable_enhanced_bridge", ("true", "false"), through_the_bridge, (True, False)),
    Case(f"{P}.enable_batch_processing", ("true", "false"), batches, (100, 1)),
    Case(f"{P}.batch_size", ("100", "7"), batches, (100, 7)),
    Case(f"{P}.priority_scheduling", ("true", "false"), share_of_high,
         (lambda n: 45 <= n <= 55, lambda n: 28 <= n <= 38), (f"{P}.batch_size=6",)),
    Case(f"{P}.lazy_sync", ("true", "false"), waits_s, (above(0.7), lambda s: s < 0.7),
         (f"{P}.target_latency_ns='3s'",)),
    Case(f"{P}.target_latency_ns", ("'1ms'", "'3s'"), waits_s, (lambda s: s < 0.7, above(0.7))),
    Case("storage.backend", ("'local'", "'local'"), segments_are_here, (True, True)),
    Case("storage.cache_size", ("'64MB'", "'1MB'"), misses_of_the_second_reading, (0, above(40))),
    Case("storage.prefetch_size", ("'1MB'", "0"), read_ahead, (above(5), 0)),
    Case("storage.io_queue_depth", ("32", "5"), threads_of_the_volume, (above(32), lambda n: 5 <= n < 16)),
    Case("storage.enable_direct_io", ("false", "true"), past_the_page_cache, (False, True)),
    Case("storage.compression", ("'lz4'", "'none'"), stored_bytes, (lambda n: n < 300_000, above(MEBIBYTE - 1))),
    Case("storage.encryption", ("true;storage.encryption_key_file={here}/key", "false"), readable_on_the_disk,
         (False, True)),
    Case("storage.encryption_key_file", ("'{here}/key1'", "'{here}/key2'"), key_file_made,
         (["key1"], ["key2"]),
         ("storage.encryption=true",)),
]  # fmt: skip

KERNELS = [
    Case(f"{P}.enable_avx2_acceleration", ("true", "false"), alike, (lambda s: "scalar" not in s, {"scalar"})),
    Case(f"{P}.auto_detect_simd", ("true", "false"), alike, (lambda s: "scalar" not in s, {"scalar"})),
    Case(f"{P}.force_avx2", ("true", "false"), alike, ({"avx2"}, {"scalar"}), (f"{P}.auto_detect_simd=false",)),
    Case(f"{P}.enable_avx512", ("false", "true"), alike, ({"avx2"}, lambda s: any("avx512" in e for e in s))),
]


@pytest.mark.parametrize(**named(CASES))
def test_a_key_does_what_it_says(case, tmp_path):
    case.run(tmp_path, opened)


@pytest.mark.parametrize(**named(KERNELS))
def test_a_key_chooses_the_kernels(case, tmp_path):
    if any(levels()[level] != "ready" for level in ("avx2", "avx512")):
        pytest.skip("this machine lacks what the keys choose between")
    case.run(tmp_path, opened)
