"""RFC 6455 by hand, over a plain socket, for what no proper client lets one do."""

import base64
import hashlib
import os
import socket
import struct

from patience import PATIENCE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode, payload=b"", *, final=True, masked=True, reserved=0, declared=None):
    """The bytes of one frame. `declared` lies about the payload's length."""
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if declared is None else declared
    head = bytearray([(0x80 if final else 0) | (reserved << 4) | opcode])
    flag = 0x80 if masked else 0
    if length < 126:
        head.append(flag | length)
    elif length < 65536:
        head += struct.pack("!BH", flag | 126, length)
    else:
        head += struct.pack("!BQ", flag | 127, length)
    if not masked:
        return bytes(head) + payload
    key = os.urandom(4)
    return bytes(head) + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def close(code, reason=""):
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


# The key of RFC 6455's own example.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(path, *lines, key=KEY, version="13", upgrade="websocket"):
    """A request head; None leaves a header out."""
    head = [f"GET {path} HTTP/1.1", "Host: test"]
    if upgrade is not None:
        head += [f"Upgrade: {upgrade}", "Connection: Upgrade"]
    if key is not None:
        head.append(f"Sec-WebSocket-Key: {key}")
    if version is not None:
        head.append(f"Sec-WebSocket-Version: {version}")
    return "\r\n".join([*head, *lines, "", ""]).encode()


def subprotocol(names):
    """The line of a handshake that offers subprotocols."""
    return f"Sec-WebSocket-Protocol: {names}"


def accept(key=KEY):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


class RawSocket:
    """A connection before, during and after the handshake."""

    def __init__(self, address, *, receive_buffer=None, patience=PATIENCE):
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(patience)
        self._socket.connect(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def send_byte_by_byte(self, data):
        for at in range(len(data)):
            self._socket.sendall(data[at : at + 1])

    def response(self):
        """Status and headers of an HTTP answer; its body, if any, stays unread."""
        status = self._file.readline().decode("latin-1").split(" ", 2)
        assert status[0].startswith("HTTP/1."), status
        headers = {}
        while line := self._file.readline().decode("latin-1").strip():
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        return int(status[1]), headers

    def upgrade(self, path, *lines, **options):
        """Does the handshake and returns the answer's headers."""
        self.send(handshake(path, *lines, **options))
        status, headers = self.response()
        assert status == 101, (status, headers)
        return headers

    def frame(self):
        """Opcode and payload of the next frame, which must be whole, unmasked and proper."""
        first, second = self._exactly(2)
        assert first & 0xF0 == 0x80, f"a server's frame of first byte {first:#x}"
        assert second & 0x80 == 0, "a masked frame from the server"
        length = second
        if second == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif second == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(length)

    def text(self):
        opcode, payload = self.frame()
        assert opcode == TEXT, (opcode, payload)
        return payload.decode()

    def ask(self, text):
        self.send(frame(TEXT, text))
        return self.text()

    def close_code(self):
        """The code of the close frame, which must come next."""
        opcode, payload = self.frame()
        assert opcode == CLOSE, (opcode, payload)
        return struct.unpack("!H", payload[:2])[0] if payload else None

    def ended(self):
        """Whether the server ends the connection without another byte."""
        return self.rest() == b""

    def rest(self):
        """All bytes until the server ends the connection."""
        data = b""
        try:
            while more := self._file.read1(65536):
                data += more
        except ConnectionResetError:
            pass
        return data

    def finish(self, code):
        """Answers the server's close, unless it has hung up already, and waits for the end."""
        try:
            self.send(close(code))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert self.ended()

    def _exactly(self, count):
        data = self._file.read(count)
        assert len(data) == count, "the connection ended inside of a frame or instead of one"
        return data
