"""A worker's link over HTTP: an EventSource, the stream of a vhost's events."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from typing import Iterator

from .address import Address
from .errors import ConnectionLost
from .http_requests import credentials, refusal
from .inbox import Delivery, Inbox
from .link import SILENCE_MAX, Link, log
from .trigger import Trigger

# A line is at most a whole trigger; one that is longer is none of this server.
_LINE_BYTES_MAX = 64 << 20


class HttpLink(Link):
    """What was read is this worker's alone, and nothing is acknowledged: while the inbox is full, nothing is read, so
    that the server gives the rest to others."""

    def __init__(self, address: Address, inbox: Inbox, events: str | None):
        super().__init__(address, inbox)
        query = urllib.parse.urlencode({"mode": "worker", **({"filter": events} if events else {})})
        self._path = f"{address.vhost}/events?{query}"
        self._headers = {**credentials(address), "Accept": "text/event-stream"}
        self._socket: socket.socket | None = None

    def stop(self) -> None:
        super().stop()
        stream = self._socket
        if stream is not None:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has come to its end by itself.

    def _converse(self) -> None:
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=SILENCE_MAX)
        try:
            connection.connect()
            self._socket = connection.sock
            if not self._is_stopping:
                connection.request("GET", self._path, headers=self._headers)
                self._read(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            if not self._is_stopping:
                raise ConnectionLost(f"the stream of events broke: {error or type(error).__name__}") from error
        finally:
            self._socket = None
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> None:
        if response.status != 200:
            raise refusal(response, response.read())
        for name, data in events(response):
            try:
                members = json.loads(data)
                if not isinstance(members, dict):
                    raise ValueError("no object")
            except ValueError:
                log.error("an event that cannot be read was left out")
                continue
            self.inbox.put(Delivery(Trigger.from_members(name, members)))
            while self.inbox.is_full and not self._is_stopping:
                self.bell.wait(SILENCE_MAX)


def events(stream: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    """Name and data of each whole event of a `text/event-stream`."""
    name, data = "message", []
    while line := stream.readline(_LINE_BYTES_MAX):
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif line in (b"\n", b"\r\n"):
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
