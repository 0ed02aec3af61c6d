"""A client's requests over ZeroMQ."""

from __future__ import annotations

import json
import time
from typing import Any

from .address import Address
from .errors import ConnectionLost, RequestError, RequestTimeout
from .zmq_socket import ExchangeSocket, refusal, text, zmq


class ZmqRequests:
    """Asks over one DEALER at a time. One whose answer was missed is closed, and the late answer with it."""

    def __init__(self, address: Address, timeout: float):
        self._address = address
        self._timeout = timeout
        self._context: zmq.Context | None = None
        self._socket: ExchangeSocket | None = None

    def close(self) -> None:
        self._drop()
        if self._context is not None:
            self._context.term()
            self._context = None

    def open_channel(self, channel: str) -> None:
        self._ask("OC", channel)

    def close_channel(self, channel: str) -> None:
        self._ask("CC", channel)

    def broadcast(self, channel: str, event: str, data: str) -> None:
        self._ask("BC", channel, event, data)

    def send_message(self, sid: str, event: str, data: str) -> None:
        self._ask("DM", sid, event, data)

    def request_token(self, uid: str, pattern: str) -> str:
        return self._ask("AT", uid, pattern)

    def members(self, channel: str) -> list[dict[str, Any]]:
        return json.loads(self._ask("PR", channel))

    def _ask(self, *request: str) -> str:
        """The argument of the reply, empty if it has none."""
        frames = [word.encode() for word in request]
        settled = False
        try:
            reply = self._exchange(frames)
            settled = reply[0] != b"ER" or reply[1:2] != [b"402"]
        finally:
            if not settled:
                self._drop()
        if reply[0] == b"ER":
            raise refusal(reply)
        return text(reply[1]) if len(reply) > 1 else ""

    def _exchange(self, request: list[bytes]) -> list[bytes]:
        deadline = time.monotonic() + self._timeout
        socket = self._connected()
        socket.send(request)
        poller = zmq.Poller()
        poller.register(socket.dealer, zmq.POLLIN)
        poller.register(socket.monitor, zmq.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise RequestTimeout(f"no answer from {self._address.authority} within {self._timeout} s")
            poller.poll(left * 1000)
            reply = socket.receive()
            if reply is not None:
                return reply
            socket.check()

    def _connected(self) -> ExchangeSocket:
        """The socket, a new one if the connection broke since the last request."""
        if self._socket is not None:
            try:
                self._socket.check()
            except (ConnectionLost, RequestError):
                self._drop()
        if self._socket is None:
            self._context = self._context or zmq.Context()
            self._socket = ExchangeSocket(self._context, self._address)
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
