"""The bridge: what enqueueing costs, and how soon items are handed on."""

import threading
import time

from vexfs._core.bridge import Bridge
from vexfs._core.measure import discard, enqueue_ns


class Enqueue:
    """Nanoseconds inside one enqueue, from C."""

    params = (False, True)
    param_names = ("lazy_sync",)
    unit = "ns"

    def setup(self, lazy_sync):
        self.bridge = Bridge(capacity=1 << 17, lazy_sync=lazy_sync)
        discard(self.bridge)

    def teardown(self, lazy_sync):
        self.bridge.close()

    def track_into_a_stopped_bridge(self, lazy_sync):
        """The queue alone: nobody takes."""
        best = float("inf")
        for _ in range(5):
            best = min(best, enqueue_ns(self.bridge, rounds=50_000))
            self.bridge.start()
            self.bridge.barrier(30)
            self.bridge.stop()
        return best

    def track_into_a_running_bridge(self, lazy_sync):
        self.bridge.start()
        return min(enqueue_ns(self.bridge, rounds=50_000) for _ in range(5))


class HandOver:
    """Microseconds from enqueue to handler, two producers, so many items a second together."""

    params = ([1_000, 20_000, 100_000], [False, True])
    param_names = ("rate", "lazy_sync")
    unit = "us"

    def setup(self, rate, lazy_sync):
        self.bridge = Bridge(lazy_sync=lazy_sync)
        discard(self.bridge)
        self.bridge.start()

    def teardown(self, rate, lazy_sync):
        self.bridge.close()

    def once(self, rate):
        self.bridge.reset()
        half = (rate / 2, max(200, rate // 4))
        threads = [threading.Thread(target=enqueue_ns, args=(self.bridge, 0, k << 32, *half)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.bridge.barrier(30)

    def track_mean(self, rate, lazy_sync):
        best = float("inf")
        for _ in range(3):
            self.once(rate)
            best = min(best, self.bridge.stats()["latency_mean_ns"])
        return best / 1e3

    def track_p99(self, rate, lazy_sync):
        best = float("inf")
        for _ in range(3):
            self.once(rate)
            best = min(best, self.bridge.percentiles((99,))[99])
        return best / 1e3


class Throughput:
    """Items a second through the bridge, enqueued as fast as can be, handled by nothing."""

    params = (1, 100, 1000)
    param_names = ("batch_size",)
    unit = "items/s"

    def track_items(self, batch_size):
        bridge = Bridge(batch_size=batch_size)
        discard(bridge)
        with bridge:
            start = time.perf_counter()
            enqueue_ns(bridge, rounds=300_000)
            bridge.barrier(60)
            return 300_000 / (time.perf_counter() - start)
