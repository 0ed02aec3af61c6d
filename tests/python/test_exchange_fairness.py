"""Backends that make the exchange work hard, beside one of another vhost that asks little."""

import contextlib

import pytest

from exchange import Client, Worker, client, error, server, vhost
from session import Vhost, fresh

FILTERS = 300
# So many that all of theirs together take longer than a worker may be silent.
WORKERS = 500
QUESTIONS = 20


def slow_filter(number):
    return rf"[\w&&[^a]]{{3}}{number}"


def test_filters_that_take_long_hold_up_nobody_else(server, vhost, client):
    other = Vhost(server, f"/{fresh('v')}")
    with Client(other) as flooding:
        for number in range(FILTERS):
            flooding.say("RD", slow_filter(number))
        # Answered when all of them are compiled.
        flooding.say("CC", "-")
        for _ in range(QUESTIONS):
            assert client.ask("CC", "-") == error(454)
        assert not flooding.socket.poll(0), "everybody had to wait for all of them"
        assert flooding.hear() == error(454)
    server.ctl("vhost", "remove", other.path)


@pytest.mark.parametrize("server", [1], indirect=True)
def test_nobody_is_silent_whose_words_wait_to_be_read(server, vhost):
    with contextlib.ExitStack() as open_workers:
        workers = [open_workers.enter_context(Worker(vhost)) for _ in range(WORKERS)]
        for number, worker in enumerate(workers):
            worker.say("RD", slow_filter(number))
            worker.say("HB")
        for worker in workers:
            worker.hears_nothing()
