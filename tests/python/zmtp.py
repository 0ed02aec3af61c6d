"""ZMTP 3.0 by hand (ZeroMQ RFC 23 and 24), for what libzmq would never send."""

import socket

from patience import PATIENCE

MORE, LONG, COMMAND = 1, 2, 4


def zmtp_frame(body, flags=0):
    """A frame as it stands on the wire."""
    if len(body) > 255:
        return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body


def greeting(mechanism=b"PLAIN"):
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)


def _short(text):
    return bytes([len(text)]) + text


def _property(name, value):
    return _short(name) + len(value).to_bytes(4, "big") + value


class RawPeer:
    """A connection to the exchange on which bytes are bytes."""

    def __init__(self, url, *, receive_buffer=None):
        """`receive_buffer` bounds, roughly, the bytes that wait on this side."""
        host, port = url.removeprefix("tcp://").rsplit(":", 1)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    @classmethod
    def admitted(cls, url, vhost, kind, identity=b"", **options):
        """A peer that is through the handshake as a socket of this kind."""
        peer = cls(url, **options)
        peer.send(greeting())
        peer.read(64)
        peer.hello(vhost.path.encode(), vhost.token.encode())
        assert peer.read_frame()[1] == b"\x07WELCOME"
        peer.command(b"INITIATE", _property(b"Socket-Type", kind) + _property(b"Identity", identity))
        assert peer.read_frame()[1].startswith(b"\x05READY")
        return peer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def command(self, name, body=b""):
        self.send(zmtp_frame(_short(name) + body, COMMAND))

    def ping(self):
        """Shows that it lives: the server cuts off who reads nothing, and so answers no ping, and says nothing either."""
        self.command(b"PING", bytes(2))

    def hello(self, user, password):
        self.command(b"HELLO", _short(user) + _short(password))

    def message(self, *frames):
        *before, last = frames
        self.send(b"".join(zmtp_frame(frame, MORE) for frame in before) + zmtp_frame(last))

    def read(self, count):
        data = self._file.read(count)
        assert len(data) == count, "the connection is over"
        return data

    def read_frame(self):
        """Flags and body of the next frame."""
        flags, length = self.read(2)
        if flags & LONG:
            length = int.from_bytes(bytes([length]) + self.read(7), "big")
        return flags, self.read(length)

    def read_message(self):
        """The frames of the next message; libzmq's own commands are left out."""
        frames = []
        while True:
            flags, body = self.read_frame()
            if not flags & COMMAND:
                frames.append(body)
                if not flags & MORE:
                    return frames

    def rest(self):
        """All bytes that have come and were not read."""
        self.socket.setblocking(False)
        data = b""
        try:
            while more := self._file.read(65536):
                data += more
        except OSError:
            pass
        return data

    def ended(self):
        """Whether the server ends the connection; what it still says is read."""
        try:
            while self._file.read(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True
