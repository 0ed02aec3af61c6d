"""What a link and the thread that runs handlers share: deliveries one way, a bell the other."""

from __future__ import annotations

import queue
import selectors
import socket
from dataclasses import dataclass

from .trigger import Trigger

# How many deliveries that nobody acknowledges may wait for the handlers. Beyond, the link takes none.
BACKLOG_MAX = 64


@dataclass(frozen=True)
class Delivery:
    """A trigger, and what its outcome is to be reported with."""

    trigger: Trigger
    id: bytes | None = None
    connection: int = 0


class Inbox:
    """Deliveries in order, then the end, which may carry the error that caused it. Taken by one thread."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Delivery | BaseException | None] = queue.SimpleQueue()

    def put(self, delivery: Delivery) -> None:
        self._items.put(delivery)

    def end(self, error: BaseException | None = None) -> None:
        self._items.put(error)

    def clear(self) -> None:
        """Forgets what no handler has begun with."""
        try:
            while True:
                self._items.get_nowait()
        except queue.Empty:
            pass

    @property
    def is_full(self) -> bool:
        return self._items.qsize() >= BACKLOG_MAX

    def get(self) -> Delivery | None:
        """Waits for the next delivery. `None` is the end; an error that ended it is raised."""
        item = self._items.get()
        if isinstance(item, BaseException):
            raise item
        return item


class Bell:
    """Wakes a thread that waits for it or for a socket. Ringing is safe in signal handlers, also when it is closed."""

    def __init__(self) -> None:
        self._listening, self._ringing = socket.socketpair()
        self._listening.setblocking(False)
        self._ringing.setblocking(False)

    def fileno(self) -> int:
        return self._listening.fileno()

    def ring(self) -> None:
        try:
            self._ringing.send(b"!")
        except OSError:
            pass  # It has been rung often enough, or nobody listens any more.

    def silence(self) -> None:
        try:
            while self._listening.recv(4096):
                pass
        except BlockingIOError:
            pass

    def wait(self, timeout: float) -> None:
        """Returns when it rings, at the latest after `timeout` seconds."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.select(timeout)
        self.silence()

    def close(self) -> None:
        self._ringing.close()
        self._listening.close()
