"""Hundreds of connections in one thread, for what a thread or a proper client each would be too slow to show.

Messages are sent as frames by hand, and what comes is read as frames by hand; the clients written by others are in
`session.py`.
"""

import collections
import select
import socket
import struct
import time

from frames import CLOSE, PING, PONG, TEXT, frame, handshake, subprotocol
from patience import PATIENCE

# Of a round of receiving, in bytes.
_CHUNK = 1 << 18


class Member:
    """One connection of a crowd. What it heard waits in `heard`; `told`, if set, is called with each text instead."""

    def __init__(self, address, path, dialect):
        self.dialect = dialect
        self.heard = collections.deque()
        self.told = None
        self.close_code = None
        self.ended = False
        self._buffer = bytearray()
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(handshake(path, subprotocol(dialect)))
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._received_once()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._buffer = bytearray(rest)
        self._socket.settimeout(None)
        # A greeting may have come with the handshake's answer.
        self._take_frames()

    def _received_once(self):
        data = self._socket.recv(_CHUNK)
        assert data, "the connection ended in its handshake"
        return data

    def fileno(self):
        return self._socket.fileno()

    @property
    def is_wwfp(self):
        return self.dialect == "wwfp"

    def say(self, text):
        self.send(frame(TEXT, text))

    def send(self, data):
        """Sends bytes, which are few enough for the kernel to take them at once."""
        self._socket.sendall(data)

    def receive(self):
        """Takes what is there without waiting for more."""
        try:
            data = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return
        self._buffer += data
        self._take_frames()

    def _take_frames(self):
        buffer, at = self._buffer, 0
        while (end := _end_of_frame(buffer, at)) is not None:
            start, end = end
            opcode, payload = buffer[at] & 0x0F, bytes(buffer[start:end])
            at = end
            if opcode == TEXT:
                text = payload.decode()
                (self.told or self.heard.append)(text)
            elif opcode == PING:
                self.send(frame(PONG, payload))
            elif opcode == CLOSE:
                (self.close_code,) = struct.unpack("!H", payload[:2])
                self._answer_close(payload)
        del buffer[:at]

    def _answer_close(self, payload):
        try:
            self.send(frame(CLOSE, payload))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def close(self):
        self._socket.close()
        self.ended = True

    def reset(self):
        """Ends it without a word to anybody: the server finds a reset connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def _end_of_frame(buffer, at):
    """Where the payload of the frame at `at` begins and ends, once all of it is there."""
    if len(buffer) < at + 2:
        return None
    length, start = buffer[at + 1], at + 2
    if length >= 126:
        form, size = ("!H", 2) if length == 126 else ("!Q", 8)
        if len(buffer) < start + size:
            return None
        (length,) = struct.unpack_from(form, buffer, start)
        start += size
    return (start, start + length) if len(buffer) >= start + length else None


class Crowd:
    """Members that are heard together."""

    def __init__(self, server, path):
        self._server = server
        self.path = path
        self._poll = select.epoll()
        self._members = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            self.remove(member)
        self._poll.close()

    @property
    def members(self):
        return list(self._members.values())

    def join(self, dialect):
        """One more member; a greeting, if its dialect has one, is still to be heard."""
        member = Member(self._server.websocket_address, self.path, dialect)
        self._members[member.fileno()] = member
        self._poll.register(member.fileno(), select.EPOLLIN)
        return member

    def remove(self, member, *, reset=False):
        """Ends a member's connection."""
        if self._members.pop(member.fileno(), None) is not None:
            self._poll.unregister(member.fileno())
            member.reset() if reset else member.close()

    def listen(self, timeout=0.0):
        """Takes what has come for anybody; whether something has. One that the server hung up on is removed."""
        ready = self._poll.poll(timeout)
        for descriptor, _ in ready:
            member = self._members[descriptor]
            member.receive()
            if member.ended:
                self._members.pop(descriptor)
                self._poll.unregister(descriptor)
                member.close()
        return bool(ready)

    def listen_until(self, happened, what):
        """Listens until `happened()`, asked after each round, says so."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"gave up waiting for {what}"
            self.listen(deadline - time.monotonic())

    def hear_all(self, what):
        """The next message of every member."""
        self.listen_until(lambda: all(member.heard for member in self._members.values()), what)
        return [member.heard.popleft() for member in self._members.values()]
