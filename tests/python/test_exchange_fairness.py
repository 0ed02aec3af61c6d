"""Backends that make the exchange work hard, beside one of another vhost that asks little."""

from exchange import Client, client, error, server, vhost
from session import Vhost, fresh

FILTERS = 300
QUESTIONS = 20


def test_filters_that_take_long_hold_up_nobody_else(server, vhost, client):
    other = Vhost(server, f"/{fresh('v')}")
    with Client(other) as flooding:
        for number in range(FILTERS):
            flooding.say("RD", rf"[\w&&[^a]]{{3}}{number}")
        # Answered when all of them are compiled.
        flooding.say("CC", "-")
        for _ in range(QUESTIONS):
            assert client.ask("CC", "-") == error(454)
        assert not flooding.socket.poll(0), "everybody had to wait for all of them"
        assert flooding.hear() == error(454)
    server.ctl("vhost", "remove", other.path)
