"""Backends over ZeroMQ, spoken through pyzmq: clients, workers and streams, and fixtures for them.

Test modules import the fixtures that they use.
"""

import contextlib
import http.client
import json
import re
import time

import pytest
import zmq

from process import PATIENCE, Server
from session import Vhost, fresh


def zmq_socket(kind, url, user, password, **options):
    """A connected socket that shows these credentials, none where `user` is None. Its waits end after PATIENCE."""
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.rcvtimeo = socket.sndtimeo = int(PATIENCE * 1000)
    if user is not None:
        socket.plain_username, socket.plain_password = user.encode(), password.encode()
    for name, value in options.items():
        setattr(socket, name, value)
    socket.connect(url)
    return socket


class Peer:
    """A connection to a vhost's exchange. Frames go and come as bytes, without the delimiter."""

    KIND = zmq.DEALER
    # Whether each heartbeat is answered by one.
    beats = False

    def __init__(self, vhost, *, url=None, user=None, token=None, **options):
        url = url or vhost.server.exchange_url
        self.socket = zmq_socket(self.KIND, url, user or vhost.path, token or vhost.token, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def say(self, *frames):
        """Sends a message; frames are text or bytes."""
        self.socket.send_multipart([b"", *map(_bytes, frames)])

    def hear(self):
        """The next message that is no heartbeat."""
        while True:
            delimiter, *frames = self.socket.recv_multipart()
            assert delimiter == b""
            if frames != [b"HB"]:
                return frames
            if self.beats:
                self.say("HB")

    def ask(self, *frames):
        self.say(*frames)
        return self.hear()

    def close(self):
        self.socket.close(0)


class Client(Peer):
    """A client that may have many requests open."""

    def open(self, channel):
        assert self.ask("OC", channel) == [b"OK"]
        return channel


class Requester(Client):
    """A client with a REQ socket, which adds the delimiter itself."""

    KIND = zmq.REQ

    def say(self, *frames):
        self.socket.send_multipart([*map(_bytes, frames)])

    def hear(self):
        return self.socket.recv_multipart()


class Worker(Peer):
    """A worker. It lives as long as it is heard, and is heard while a test waits for something to hear."""

    beats = True

    def ready(self, *arguments):
        """Says that it is ready, and returns once the server knows."""
        self.say("RD", *arguments)
        # Answered after what was said before: a client's question, which changes nothing.
        assert self.ask("CC", "-") == error(454)
        return self

    def trigger(self):
        """The next trigger: payload and, with a window, id."""
        command, payload, *number = self.hear()
        assert command == b"TR", command
        return (json.loads(payload), *number)

    def events(self, count):
        """The events of the next triggers, each acknowledged where that is wanted."""
        events = []
        for _ in range(count):
            payload, *number = self.trigger()
            events.extend(payload)
            if number:
                self.say("AK", *number)
        return events

    def hears_nothing(self):
        """What comes next is the answer to a question of now: nothing stood before it."""
        assert self.ask("CC", "-") == error(454)


class Stream:
    """A stream subscriber."""

    def __init__(self, vhost, *topics, user=None, token=None, **options):
        url = vhost.server.stream_url
        self.socket = zmq_socket(zmq.SUB, url, user or vhost.path, token or vhost.token, **options)
        for topic in topics:
            self.socket.subscribe(topic)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close(0)

    def hear(self):
        """Topic and payload of the next copy."""
        topic, payload = self.socket.recv_multipart()
        return topic.decode(), json.loads(payload)

    def hear_topic(self):
        return self.hear()[0]


def _bytes(frame):
    return frame if isinstance(frame, bytes) else str(frame).encode()


ERRORS = {
    400: "Bad request",
    402: "Unauthorized",
    404: "Session not found",
    451: "Invalid channel name",
    454: "Channel not found",
    503: "Service unavailable",
}


def error(code):
    return [b"ER", str(code).encode(), ERRORS[code].encode()]


def trigger(event, data=None):
    """The text of a classic trigger request."""
    return json.dumps({"trigger": {"event": event, **({} if data is None else {"data": data})}})


def place(session, *events, data=None):
    """Triggers events one after the other; each must be taken."""
    for event in events:
        session.say(trigger(event, data))
    for event in events:
        assert session.hear() == f'{{"triggered":"{event}"}}'


def figure(server, name):
    """A figure without labels."""
    with contextlib.closing(http.client.HTTPConnection(*server.control_address, timeout=PATIENCE)) as connection:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    return int(re.search(rf"^webrocket_{name} (\d+)$", page, re.MULTILINE)[1])


def eventually(value, expected):
    """Returns once `value()` is as expected. For what the server does when it gets round to it."""
    deadline = time.monotonic() + PATIENCE
    while value() != expected:
        assert time.monotonic() < deadline, (value(), expected)


@pytest.fixture(scope="module", params=[1, 4], ids="{}-shards".format)
def server(request, tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("exchange"), shards=request.param).start()
    yield made
    assert made.stop() == 0
    assert not [line for line in made.log if "panicked" in line]


@pytest.fixture
def vhost(server):
    """A vhost of the test's own, where anonymous sessions may read and write."""
    made = Vhost(server, f"/{fresh('v')}/x", "anonymous=read,write")
    yield made
    made.close_sessions()
    server.ctl("vhost", "remove", made.path)


@pytest.fixture
def browser(vhost):
    """A session that places triggers."""
    return vhost.connect()


@pytest.fixture
def client(vhost):
    with Client(vhost) as made:
        yield made
