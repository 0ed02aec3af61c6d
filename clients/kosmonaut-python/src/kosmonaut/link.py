"""A worker's link to the server: a thread that keeps a connection up and fills the inbox.

What is sent over the connection is the business of the two kinds of link, in `zmq_link` and `http_link`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod

from .address import Address
from .errors import KosmonautError, RequestError
from .inbox import Bell, Delivery, Inbox

log = logging.getLogger("kosmonaut")

# In seconds. The server says something at least once a second.
HEARTBEAT_INTERVAL = 1.0
SILENCE_MAX = 3.0
BACKOFF_MIN = 0.1
BACKOFF_MAX = 10.0


class Link(ABC):
    """Connects, and connects anew when a connection is over, until it is closed or the server refuses the worker.

    All methods but `ring` belong to one thread each: `_converse` to the link's own, the others to the worker's.
    """

    def __init__(self, address: Address, inbox: Inbox):
        self.address = address
        self.inbox = inbox
        self.bell = Bell()
        self._is_stopping = False
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="kosmonaut", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Takes no more triggers and ends the inbox. Safe in signal handlers."""
        self._is_stopping = True
        self.bell.ring()

    def close(self) -> None:
        """Leaves the server once it knows all outcomes, and returns when that is done."""
        self._is_closing = True
        self.stop()
        self._thread.join()
        self.bell.close()

    def settle(self, delivery: Delivery, is_handled: bool) -> None:
        """Reports the outcome of a delivery, or that there is room for another one."""
        self.bell.ring()

    @abstractmethod
    def _converse(self) -> None:
        """One connection, from its beginning until it is over or the link is to stop.

        Raises `RequestError` if the server refuses the worker, `KosmonautError` if the connection is lost.
        """

    def _run(self) -> None:
        try:
            self._keep_up()
        except Exception as error:  # A refusal; a fault of this package must not let the worker wait for ever either.
            self.inbox.end(error)
        else:
            self.inbox.end()

    def _keep_up(self) -> None:
        backoff = BACKOFF_MIN
        while not self._is_stopping:
            begun = time.monotonic()
            try:
                self._converse()
                reason = "the server wants a new connection"
            except RequestError as error:
                if error.code in (400, 402, 404):
                    raise
                reason = str(error)
            except KosmonautError as error:
                reason = str(error)
            if self._is_stopping:
                return
            if time.monotonic() - begun > SILENCE_MAX:
                backoff = BACKOFF_MIN
            delay = random.uniform(0, backoff)
            backoff = min(2 * backoff, BACKOFF_MAX)
            log.warning("%s: connecting anew to %s in %.1f s", reason, self.address.authority, delay)
            self.bell.wait(delay)
