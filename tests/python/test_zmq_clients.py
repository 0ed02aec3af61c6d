"""Clients over ZeroMQ: every request with its reply and its errors, their order, and clients that misbehave."""

import itertools
import json

import pytest

from exchange import Client, Requester, Worker, error, place
from metrics import metric
from patience import eventually
from session import Session, Vhost, fresh
from wwfp import Wwfp, entry, on_channel

OK = [b"OK"]
# What a sid looks like; no session has it.
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("kind", [Client, Requester])
def test_a_channel_is_opened_broadcast_on_and_closed(server, vhost, kind):
    with kind(vhost) as client:
        for _ in range(2):
            assert client.ask("OC", "news") == OK
        assert server.channels(vhost.path) == ["news"]
        listeners = [vhost.connect(dialect=dialect) for dialect in (Session, Wwfp)]
        for listener in listeners:
            listener.subscribe("news")
        assert client.ask("BC", "news", "hello", '{"a": 1, "sid": 2}') == OK
        for listener in listeners:
            assert listener.hear() == '{"hello":{"a": 1,"channel":"news"}}'
        assert client.ask("CC", "news") == OK
        assert listeners[0].hear() == '{"unsubscribed":"news"}'
        assert listeners[1].hear() == on_channel("unsubscribed", "news")
        assert client.ask("BC", "news", "hello", "{}") == error(454)
        assert client.ask("CC", "news") == error(454)


@pytest.mark.parametrize("name", ["", "-a", "a b", "é", "x" * 201])
def test_a_channels_name_is_checked(client, name):
    assert client.ask("OC", name) == error(451)
    assert client.ask("CC", name) == error(454)
    assert client.ask("BC", name, "hello", "{}") == error(454)
    assert client.ask("PR", name) == error(454)


def test_the_channel_limit(server, vhost, client):
    server.ctl("settings", "set", vhost.path, "channels_max=2")
    assert [client.ask("OC", name) for name in ("a", "b", "a")] == [OK] * 3
    assert client.ask("OC", "c") == error(403)
    assert client.ask("CC", "a") == OK
    assert client.ask("OC", "c") == OK


def test_a_token_is_issued(vhost, client):
    client.open("private-x")
    command, token = client.ask("AT", "joe", "private-.*")
    assert command == b"AT" and len(token) == 128
    joe = vhost.connect(dialect=Wwfp)
    joe.present_token(token.decode())
    joe.subscribe("private-x", "joe")


@pytest.mark.parametrize("uid, pattern", [("", ".*"), ("joe", "("), ("joe", "(a{1000}){1000}"), ("joe", "a" * 5000)])
def test_a_token_for_what_cannot_be_is_a_bad_request(client, uid, pattern):
    assert client.ask("AT", uid, pattern) == error(400)


def test_one_session_is_told(vhost, client):
    tom, ann = vhost.connect(dialect=Wwfp), vhost.connect(dialect=Wwfp)
    assert client.ask("DM", tom.sid, "note", '{"channel": 1, "a": [1, 2]}') == OK
    assert tom.hear() == '{"note":{"a": [1, 2]}}'
    ann.hears_nothing()


def test_nobody_is_told_who_is_not_there(server, vhost, client):
    with Vhost(server, f"/{fresh('v')}") as other:
        stranger = other.connect(dialect=Wwfp)
        for sid in ("", "x", NOBODY, stranger.sid):
            assert client.ask("DM", sid, "note", "{}") == error(404)
        stranger.hears_nothing()


def test_who_is_present(vhost, client):
    client.open("presence-x")
    assert client.ask("PR", "presence-x") == [b"PR", b"[]"]
    present = []
    for uid, data in (('T"om', '{"age": 7.50}'), ("joe", None)):
        session = vhost.connect(dialect=Wwfp)
        session.present_token(vhost.issue_token(uid, "presence-x"))
        session.attend("presence-x", uid, present, **({} if data is None else {"data": data}))
        present.append(entry(uid, "" if data is None else data[1:-1]))
    assert client.ask("PR", "presence-x") == [b"PR", f"[{','.join(present)}]".encode()]
    assert client.ask("PR", client.open("open")) == [b"PR", b"[]"]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [""],
        ["oc", "a"],
        ["ZZ", "a"],
        ["OC"],
        ["OC", "a", "b"],
        ["CC"],
        ["BC", "a", "e"],
        ["BC", "a", "e", "{}", "x"],
        ["BC", "a", "e", "{"],
        ["BC", "a", "e", ""],
        ["BC", "a", "e", "[" * 500 + "]" * 500],
        ["BC", "a", "", "{}"],
        ["BC", "a", ":e", "{}"],
        ["BC", "a", "__e", "{}"],
        ["BC", "a", "subscribed", "{}"],
        ["BC", "a", "e" * 201, "{}"],
        ["BC", "a", b"\xff", "{}"],
        ["BC", "a", "e", b'"\xff"'],
        ["DM", NOBODY, "", "{}"],
        ["DM", NOBODY, "e", "nope"],
        ["DM", NOBODY, "e"],
        ["AT", "joe"],
        ["AT", "joe", ".*", "x"],
        ["PR"],
        ["OC", b"\x00\xff\xfe"],
    ],
    ids=lambda frames: repr(frames)[:28],
)
def test_a_wrong_request_is_a_bad_request(client, frames):
    client.open("a")
    assert client.ask(*frames) == error(400)
    assert client.ask("CC", "a") == OK


def test_nothing_crosses_vhosts(server, vhost, client):
    with Vhost(server, f"/{fresh('v')}", "anonymous=read,write") as other, Client(other) as stranger:
        client.open("news")
        assert stranger.ask("BC", "news", "hello", "{}") == error(454)
        assert stranger.ask("PR", "news") == error(454)
        assert stranger.ask("CC", "news") == error(454)


# Order


def test_replies_come_in_the_order_of_requests(vhost, client):
    channels = [client.open(fresh("many")) for _ in range(8)]
    expected = []
    asked = itertools.cycle(
        [
            lambda channel: (["BC", channel, "e", "1"], OK),
            lambda channel: (["BC", "nowhere", "e", "1"], error(454)),
            lambda channel: (["OC", channel], OK),
            lambda channel: (["BC", channel, "e", "1"], OK),
            lambda channel: (["DM", "x", "e", "1"], error(404)),
            lambda channel: (["ZZ"], error(400)),
            lambda channel: (["PR", channel], [b"PR", b"[]"]),
            lambda channel: (["OC", "-"], error(451)),
        ]
    )
    for make, channel in zip(asked, channels * 100):
        frames, reply = make(channel)
        client.say(*frames)
        expected.append(reply)
    assert [client.hear() for _ in expected] == expected


def test_a_clients_requests_take_effect_in_its_order(vhost, client):
    listener = vhost.connect(dialect=Wwfp)
    client.open("a")
    listener.subscribe("a")
    for number in range(100):
        client.say("BC", "a", "n", number)
    client.say("CC", "a")
    client.say("BC", "a", "never", "1")
    client.say("OC", "a")
    assert [client.hear() for _ in range(103)] == [*[OK] * 101, error(454), OK]
    assert [json.loads(listener.hear())["n"]["data"] for _ in range(100)] == list(range(100))
    assert listener.hear() == on_channel("unsubscribed", "a")
    listener.hears_nothing()


def test_all_subscribers_see_one_order(vhost):
    clients = [Client(vhost) for _ in range(4)]
    clients[0].open("a")
    listeners = [vhost.connect(dialect=Wwfp) for _ in range(4)]
    for listener in listeners:
        listener.subscribe("a")
    count = 200
    for number in range(count):
        for index, client in enumerate(clients):
            client.say("BC", "a", "n", json.dumps([index, number]))
    seen = [[listener.hear() for _ in range(count * len(clients))] for listener in listeners]
    assert all(heard == seen[0] for heard in seen)
    told = [json.loads(text)["n"]["data"] for text in seen[0]]
    for index, client in enumerate(clients):
        assert [number for teller, number in told if teller == index] == list(range(count))
        assert [client.hear() for _ in range(count)] == [OK] * count
        client.close()


# Too much


def test_a_thousand_open_requests_are_answered(vhost):
    """A client that keeps within its bound misses no answer."""
    count, open_max = 10_000, 1_000
    with Client(vhost, rcvhwm=0) as client:
        channel = client.open(fresh("busy"))
        for number in range(count):
            if number >= open_max:
                assert client.hear() == OK
            client.say("BC", channel, "n", number)
        assert [client.hear() for _ in range(open_max)] == [OK] * open_max


def test_too_many_requests_are_refused_in_their_place(server, vhost, client):
    """Opening takes its time, so requests pile up: what was too much is answered in its place, and not done."""
    server.ctl("settings", "set", vhost.path, "channels_max=2000")
    names = [fresh("pile") for _ in range(1_500)]
    for name in names:
        client.say("OC", name)
    replies = [client.hear() for _ in names]
    assert replies[:1_000] == [OK] * 1_000 and error(503) in replies
    assert all(reply in (OK, error(503)) for reply in replies)
    opened = {name for name, reply in zip(names, replies) if reply == OK}
    for some in (names[:750], names[750:]):
        for name in some:
            client.say("PR", name)
        for name in some:
            assert client.hear() == ([b"PR", b"[]"] if name in opened else error(454))


def test_who_floods_and_reads_nothing_harms_nobody(server, vhost, client):
    """Replies that find no room are dropped and counted; others are served meanwhile and afterwards."""
    server.ctl("settings", "set", vhost.path, "presence_data_bytes_max=20000")
    crowded, calm = client.open("presence-crowded"), client.open("calm")
    member = vhost.connect(dialect=Wwfp)
    member.present_token(vhost.issue_token("joe", crowded))
    member.attend(crowded, "joe", data=json.dumps({"text": "x" * 15_000}))
    dropped = metric(server, "client_replies_dropped_total")
    with Client(vhost, rcvhwm=1, rcvbuf=4096, sndhwm=0) as flooding:
        for _ in range(6_000):
            flooding.say("PR", crowded)

        def drops_while_others_are_served():
            flooding.say("PR", crowded)
            assert client.ask("BC", calm, "e", "{}") == OK
            return metric(server, "client_replies_dropped_total") > dropped

        eventually(drops_while_others_are_served, True)
    assert client.ask("CC", calm) == OK
    member.hears_nothing()


def test_a_requester_that_does_not_wait_is_answered(vhost, client):
    """Without correlation such a socket cannot tell which request a reply is to."""
    with Requester(vhost, req_relaxed=1) as hasty:
        for number in range(50):
            hasty.say("OC", f"a{number}")
            assert hasty.ask("OC", "-") in (OK, error(451))
        assert client.ask("CC", "nowhere") == error(454)


def test_a_peer_may_be_client_and_worker(vhost, browser):
    with Worker(vhost) as both:
        both.ready("", 1)
        assert both.ask("OC", "a") == OK
        place(browser, "e")
        payload, number = both.trigger()
        assert both.ask("BC", "a", "done", json.dumps(payload)) == OK
        both.say("AK", number)
        both.hears_nothing()
