"""Browsers' connections in both dialects, spoken through the `websockets` package."""

import contextlib
import itertools
import json

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from patience import PATIENCE, eventually
from process import CommandFailed

# The secret of every user that has one.
SECRET = "53cr37"

# Errors of the classic dialect.
DENIED = '{"err":"ACCESS_DENIED"}'
BAD_PAYLOAD = '{"err":"INVALID_PAYLOAD"}'
BAD_CREDENTIALS = '{"err":"INVALID_CREDENTIALS"}'
NO_USER = '{"err":"USER_NOT_FOUND"}'
NO_CHANNEL = '{"err":"CHANNEL_NOT_FOUND"}'
NO_WORKER = '{"err":"ASSIGNATION_FAILED"}'

# What nobody understands, for tests that need a question of any kind.
DANCE = '{"dance":1}'

_numbers = itertools.count(1)


def fresh(prefix="c"):
    """A name that no other test uses; consecutive ones land on all shards."""
    return f"{prefix}-{next(_numbers)}"


def request(verb, /, **members):
    """The text of a request; members are JSON texts, None leaves one out."""
    present = (f'"{name}":{value}' for name, value in members.items() if value is not None)
    return f'{{"{verb}":{{{",".join(present)}}}}}'


class Connection:
    """One connection. Texts go and come as they are, so that tests compare bytes and not meanings."""

    def __init__(self, server, path, *, source="127.0.0.1", **options):
        settings = {"compression": None, "ping_interval": None, "max_queue": None, "max_size": None, "proxy": None}
        address = {"source_address": (source, 0), "open_timeout": PATIENCE, "legacy": False}
        self._closing = contextlib.ExitStack()
        self._socket = self._closing.enter_context(
            connect(server.websocket_url(path), **address, **settings | options)
        )

    @property
    def subprotocol(self):
        return self._socket.subprotocol

    def say(self, text):
        self._socket.send(text)

    def hear(self):
        """The next message."""
        return self._socket.recv(timeout=PATIENCE)

    def ask(self, text):
        """Says `text` and returns the next message."""
        self.say(text)
        return self.hear()

    def hear_until(self, last):
        """The messages up to and without `last`."""
        return list(iter(self.hear, last))

    def hears_nothing_of(self, channel):
        """Subscribes `channel`, once more perhaps. The answer comes behind all that its owner has sent: that was nothing."""
        self.subscribe(channel)

    def hear_close(self):
        """The code of the server's close frame, which must be the next thing that comes."""
        try:
            unexpected = self.hear()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection broke without a close frame"
            return closed.rcvd.code
        raise AssertionError(f"expected the close, got {unexpected!r}")

    def close(self):
        self._closing.close()


class Session(Connection):
    """A connection in the classic dialect, with the requests that most tests need, each checked for its success."""

    SUBPROTOCOL = "webrocket"

    def authenticate(self, user, secret=None):
        payload = {"user": user} if secret is None else {"user": user, "secret": secret}
        assert self.ask(json.dumps({"authenticate": payload})) == f'{{"authenticated":"{user}"}}'

    def subscribe(self, channel):
        assert self.ask(f'{{"subscribe":{{"channel":"{channel}"}}}}') == f'{{"subscribed":"{channel}"}}'

    def unsubscribe(self, channel):
        assert self.ask(f'{{"unsubscribe":{{"channel":"{channel}"}}}}') == f'{{"unsubscribed":"{channel}"}}'

    def open_channel(self, channel):
        assert self.ask(f'{{"openChannel":{{"channel":"{channel}"}}}}') == f'{{"channelOpened":"{channel}"}}'

    def broadcast(self, channel, event, data=None):
        """`data` is JSON text. The session must not be subscribed to `channel` itself."""
        assert self.ask(broadcast(channel, event, data)) == f'{{"broadcasted":"{channel}"}}'


def broadcast(channel, event, data=None):
    """The text of a broadcast request; `data` is JSON text and stands in it as it is."""
    tail = "" if data is None else f',"data":{data}'
    return f'{{"broadcast":{{"event":{json.dumps(event)},"channel":"{channel}"{tail}}}}}'


def broadcast_until_gone(writer, channel):
    """Returns once the channel is gone."""
    eventually(lambda: writer.ask(broadcast(channel, "hello")), NO_CHANNEL)


def unknown(event):
    """The error about an event that there is not; `event` is JSON text."""
    return f'{{"err":"UNDEFINED_EVENT","event":{event}}}'


class Vhost:
    """A vhost of a running server, and the sessions that a test opened on it. As a context, it is removed at the end."""

    def __init__(self, server, path, *settings):
        self.server = server
        self.path = path
        self.token = server.add_vhost(path, *settings)
        self._sessions = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close_sessions()
        # A test may have removed it already.
        with contextlib.suppress(CommandFailed):
            self.remove()

    def remove(self):
        self.server.ctl("vhost", "remove", self.path)

    def add_user(self, name, rights, secret=None):
        self.server.add_user(self.path, name, rights, secret)

    def issue_token(self, uid, channels, *more):
        return self.server.issue_token(self.path, uid, channels, *more)

    def connect(self, user=None, secret=None, *, dialect=Session, **options):
        """A session, authenticated where a user is named."""
        session = dialect(self.server, self.path, **options)
        self._sessions.append(session)
        if user is not None:
            session.authenticate(user, secret)
        return session

    def close_sessions(self):
        while self._sessions:
            self._sessions.pop().close()
