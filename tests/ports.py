"""Ports for what has to know its port before it is started."""

import random
import socket
import threading

# Below those that the kernel gives to whoever asks for any: a connection of another program would take one meanwhile.
_RANGE = range(20_000, 32_000)
_given: set[int] = set()
_lock = threading.Lock()


def free_port() -> int:
    """A port on which nobody listens, another one at each call."""
    with _lock:
        while True:
            port = random.SystemRandom().choice(_RANGE)
            if port in _given:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            _given.add(port)
            return port
