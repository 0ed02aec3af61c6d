"""A worker's link over ZeroMQ: RD, TR, AK and NK, heartbeats both ways, QT."""

from __future__ import annotations

import collections
import time

from .address import Address
from .errors import ConnectionLost
from .inbox import Delivery, Inbox
from .link import HEARTBEAT_INTERVAL, SILENCE_MAX, Link, log
from .trigger import Trigger
from .zmq_socket import ExchangeSocket, refusal, zmq

# How long the last acknowledgements may take to get out.
_LINGER_MS = 1000


class ZmqLink(Link):
    """With a window, deliveries are acknowledged: what was not begun with is forgotten whenever a connection is over,
    because the server gives it to somebody. Without, what was taken is this worker's alone, and is kept."""

    def __init__(self, address: Address, inbox: Inbox, events: str | None, window: int | None):
        super().__init__(address, inbox)
        self._window = window
        self._ready = [b"RD", (events or "").encode(), *([] if window is None else [str(window).encode()])]
        self._outcomes: collections.deque[tuple[int, list[bytes]]] = collections.deque()
        self._connection = 0
        self._has_ended = False

    def settle(self, delivery: Delivery, is_handled: bool) -> None:
        if delivery.id is not None:
            self._outcomes.append((delivery.connection, [b"AK" if is_handled else b"NK", delivery.id]))
        super().settle(delivery, is_handled)

    def _converse(self) -> None:
        self._connection += 1
        # Where nothing is acknowledged, what libzmq has in store would be lost with this process.
        with zmq.Context() as context:
            socket = ExchangeSocket(context, self.address, receive_max=1000 if self._window else 1)
            linger_ms = 0
            try:
                socket.send(self._ready)
                self._work(socket)
                linger_ms = _LINGER_MS
            finally:
                socket.close(linger_ms)
                if self._window is not None:
                    self.inbox.clear()

    def _work(self, socket: ExchangeSocket) -> None:
        """Until the server says QT or this link is closed."""
        heard = beaten = time.monotonic()
        while True:
            is_receiving = self._window is not None or not self.inbox.is_full
            self._wait(socket, is_receiving, max(0.0, beaten + HEARTBEAT_INTERVAL - time.monotonic()))
            socket.check()
            self._report(socket)
            if self._is_leaving():
                socket.send([b"QT"])
                return
            now = time.monotonic()
            while is_receiving and (message := socket.receive()) is not None:
                heard = now
                if message[0] == b"QT":
                    return
                self._take(message)
                is_receiving = self._window is not None or not self.inbox.is_full
            if not is_receiving:
                heard = now
            if now - heard > SILENCE_MAX:
                raise ConnectionLost("the server is silent")
            if now - beaten >= HEARTBEAT_INTERVAL:
                socket.send([b"HB"])
                beaten = now

    def _wait(self, socket: ExchangeSocket, is_receiving: bool, timeout: float) -> None:
        poller = zmq.Poller()
        poller.register(self.bell, zmq.POLLIN)
        poller.register(socket.monitor, zmq.POLLIN)
        if is_receiving:
            poller.register(socket.dealer, zmq.POLLIN)
        poller.poll(timeout * 1000)
        self.bell.silence()

    def _report(self, socket: ExchangeSocket) -> None:
        while self._outcomes:
            connection, outcome = self._outcomes.popleft()
            if connection == self._connection:
                socket.send(outcome)

    def _is_leaving(self) -> bool:
        """Whether it is time to go: when stopped, but with a window not before the last handler's outcome is known."""
        if not self._is_stopping:
            return False
        if self._window is None:
            return True
        if not self._has_ended:
            self._has_ended = True
            self.inbox.clear()
            self.inbox.end()
        return self._is_closing and not self._outcomes

    def _take(self, message: list[bytes]) -> None:
        if message[0] == b"ER":
            raise refusal(message)
        if message[0] != b"TR" or self._is_stopping:
            return
        id = message[2] if self._window is not None and len(message) > 2 else None
        try:
            self.inbox.put(Delivery(Trigger.from_payload(message[1]), id, self._connection))
        except (ValueError, IndexError):
            log.error("a trigger that cannot be read was left out")
            if id is not None:
                self._outcomes.append((self._connection, [b"AK", id]))
