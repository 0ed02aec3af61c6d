"""A DEALER socket to the exchange, and what happens to its connection."""

from __future__ import annotations

import socket
from typing import Sequence

try:
    import zmq
    from zmq.utils.monitor import recv_monitor_message
except ImportError as error:  # pragma: no cover
    raise ImportError('the ZeroMQ transport needs pyzmq: pip install pyzmq, or use transport="http"') from error

from .address import Address
from .errors import ConnectionLost, RequestError

# ZAP's word for wrong credentials; 300 and 500 are troubles that pass.
_REFUSED = 400


class ExchangeSocket:
    """One socket for one connection: when that is over, a new socket takes its place.

    A message is a list of frames without the delimiter. To be used by one thread.
    """

    def __init__(self, context: zmq.Context, address: Address, *, receive_max: int = 1000):
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.ipv6 = _needs_ipv6(address)
        self.dealer.rcvhwm = receive_max
        self.dealer.plain_username = address.vhost.encode()
        self.dealer.plain_password = address.token.encode()
        self.dealer.reconnect_ivl = 100
        self.dealer.reconnect_ivl_max = 1000
        events = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self.monitor = self.dealer.get_monitor_socket(events)
        self.monitor.linger = 0
        self.dealer.connect(f"tcp://{address.authority}")

    def send(self, frames: Sequence[bytes]) -> None:
        """Queues a message. Raises `ConnectionLost` if the queue is full: nothing has been taken for long."""
        try:
            self.dealer.send_multipart([b"", *frames], zmq.DONTWAIT)
        except zmq.Again as error:
            raise ConnectionLost("the server takes nothing") from error

    def receive(self) -> list[bytes] | None:
        """The next message, `None` if there is none now."""
        try:
            delimiter, *frames = self.dealer.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None
        if delimiter or not frames:
            raise ConnectionLost("the server does not speak WBP")
        return frames

    def check(self) -> None:
        """Raises what has happened to the connection: `ConnectionLost`, or `RequestError` 402 if it was refused."""
        while self.monitor.poll(0):
            happened = recv_monitor_message(self.monitor)
            if happened["event"] == zmq.EVENT_DISCONNECTED:
                raise ConnectionLost("the connection to the server broke")
            if happened["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH and happened["value"] == _REFUSED:
                raise RequestError(402, "Unauthorized", "the access token is wrong, or there is no such vhost")

    def close(self, linger_ms: int = 0) -> None:
        """Closes it; what is queued may still go out for `linger_ms`, during which the context must live."""
        self.dealer.disable_monitor()
        self.monitor.close()
        self.dealer.close(linger=linger_ms)


def _needs_ipv6(address: Address) -> bool:
    """Whether the host has no IPv4 address. libzmq tries one address only, and of `localhost` it would be `::1`, where
    servers rarely listen."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return False  # libzmq will ask again.
    return all(family != socket.AF_INET for family, *_ in found)


def text(frame: bytes) -> str:
    """A frame of the server as text."""
    return frame.decode("utf-8", "replace")


def refusal(frames: Sequence[bytes]) -> RequestError:
    """The error in an `ER` code status."""
    try:
        return RequestError(int(frames[1]), text(frames[2]))
    except (IndexError, ValueError):
        return RequestError(597, "Internal error", "the server sent an error that cannot be read")
