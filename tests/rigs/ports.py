"""Owns which ports the rigs listen on: free now, and never given to a client of another test meanwhile.

Owns no sockets: whoever asks opens its own.
"""

import contextlib
import random
import socket

# Below what Linux gives to outgoing connections (32768 and up) and to those who ask for any port:
# a broker that was killed finds its port free when it comes back, though other tests run beside.
LOWEST, HIGHEST = 15_000, 32_000


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, all different."""
    found: list[int] = []
    with contextlib.ExitStack() as open_sockets:
        while len(found) < count:
            port = random.SystemRandom().randrange(LOWEST, HIGHEST)
            tried = open_sockets.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                tried.bind(("127.0.0.1", port))
                found.append(port)
    return found
