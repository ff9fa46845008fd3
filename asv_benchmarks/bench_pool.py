"""Memory pools and frames: what a step costs from C, and how often a tier serves."""

import threading

from vexfs._core.frame import Frames
from vexfs._core.measure import burst_ns, frame_ns, pool_ns
from vexfs._core.pool import Pool


class AcquireRelease:
    """Nanoseconds of one acquire and release, from C; the second parameter names who serves."""

    params = ([1024, 4096, 16384], ["pool", "zero_on_free", "canaries", "allocator"])
    param_names = ("size", "served_by")
    unit = "ns"

    def setup(self, size, served_by):
        options = [served_by] if served_by in ("zero_on_free", "canaries") else []
        self.pool = None if served_by == "allocator" else Pool(options=options)

    def track_one_thread(self, size, served_by):
        return min(pool_ns(self.pool, size, 200_000) for _ in range(5))

    def track_two_threads(self, size, served_by):
        return min(self.both(size) for _ in range(5))

    def both(self, size):
        took = []
        threads = [threading.Thread(target=lambda: took.append(pool_ns(self.pool, size, 200_000))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(took)


class Burst:
    """Nanoseconds a page when a stream leaves many dirty: most are misses."""

    params = (64, 1000, 20_000)
    param_names = ("pages",)
    unit = "ns"

    def setup(self, pages):
        self.pool = Pool()

    def track_page(self, pages):
        return min(burst_ns(self.pool, 4096, pages, 3) for _ in range(3))

    def track_page_from_the_allocator(self, pages):
        return min(burst_ns(None, 4096, pages, 3) for _ in range(3))


class HitRate:
    """Share of acquires that the default counts serve, when so many buffers are held at once."""

    params = (16, 64, 96)
    param_names = ("held",)
    unit = "of 1"

    def track_hit_rate(self, held):
        pool = Pool()
        for _ in range(200):
            buffers = [pool.acquire(4096) for _ in range(held)]
            del buffers
        return pool.stats()["hit_rate"]


class EnterLeave:
    """Nanoseconds of entering, marking and leaving a frame."""

    params = (True, False)
    param_names = ("accounting",)
    unit = "ns"

    def track_frame(self, accounting):
        frames = Frames() if accounting else None
        return min(frame_ns(frames, 0, 200_000) for _ in range(5))


class FromPython:
    """What Python pays: the call, the object, the counters."""

    def setup(self):
        self.pool = Pool()

    def time_acquire_and_release(self):
        self.pool.acquire(4096).release()

    def time_stats(self):
        self.pool.stats()
