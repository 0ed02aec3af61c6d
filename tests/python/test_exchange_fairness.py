"""Backends that make the exchange work hard, beside one that asks little."""

import contextlib

import pytest

from exchange import Worker, error
from session import Vhost
from zmtp import RawPeer

FILTERS = 100
# So many that all of theirs together take longer than a worker may be silent.
WORKERS = 400
QUESTIONS = 20


def slow_filter(number):
    return rf"[\w&&[^a]]{{3}}{number}"


def hear(peer):
    """The next message that is no heartbeat, without its delimiter."""
    while (frames := peer.read_message()[1:]) == [b"HB"]:
        pass
    return frames


def test_filters_that_take_long_hold_up_nobody_else(start):
    """There is room for one channel: who opens it was served first."""
    server = start(shards=1)
    vhost = Vhost(server, "/moon", "channels_max=1")
    with (
        RawPeer.admitted(server.exchange_url, vhost, b"DEALER") as flooding,
        RawPeer.admitted(server.exchange_url, vhost, b"DEALER") as client,
    ):
        for each in (flooding, client):
            each.message(b"", b"CC", b"-")
            assert hear(each) == error(454)
        # Nothing of it is read before all of it is there: what is sent stands in the server's sockets at once.
        with server.freeze():
            for number in range(FILTERS):
                flooding.message(b"", b"RD", slow_filter(number).encode())
            flooding.message(b"", b"OC", b"late")
            for _ in range(QUESTIONS):
                client.message(b"", b"CC", b"-")
            client.message(b"", b"OC", b"early")
        assert [hear(client) for _ in range(QUESTIONS)] == [error(454)] * QUESTIONS
        assert hear(client) == [b"OK"]
        assert hear(flooding) == error(403), "everybody had to wait for all of them"


@pytest.mark.parametrize("server", [1], indirect=True)
def test_nobody_is_silent_whose_words_wait_to_be_read(server, vhost):
    with contextlib.ExitStack() as open_workers:
        workers = [open_workers.enter_context(Worker(vhost)) for _ in range(WORKERS)]
        for number, worker in enumerate(workers):
            worker.join(slow_filter(number))
        for worker in workers:
            worker.hears_nothing()
