"""Triggers of browsers where no worker is: refusals in the order of requests, and what stands behind them."""

import concurrent.futures
import itertools
import threading

import pytest
from websockets.exceptions import ConnectionClosed

from metrics import metric
from patience import PATIENCE
from session import DENIED, NO_WORKER, SECRET, Vhost, broadcast, fresh, request
from wwfp import Wwfp, answer, delivery, error, ok, on_channel

TRIGGER = '{"trigger":{"event":"work","data":{"a":1}}}'

# More than a session may have open at once, so that it is stopped and goes on.
MANY = 600


def triggering(channel, event, ref):
    """A broadcast that triggers `work`."""
    return request("broadcast", channel=f'"{channel}"', event=f'"{event}"', trigger='"work"', ref=ref)


# The order of answers


def test_classic_answers_keep_their_order(lobby):
    writer, reader = lobby.connect("writer"), lobby.connect("reader")
    channels = [fresh() for _ in range(5)]
    for channel in channels:
        reader.subscribe(channel)
    expected = []
    for number, channel in zip(range(MANY), itertools.cycle(channels)):
        asked = [
            (TRIGGER, NO_WORKER),
            (broadcast(channel, "hello"), f'{{"broadcasted":"{channel}"}}'),
            (f'{{"dance{number}":{{}}}}', f'{{"err":"UNDEFINED_EVENT","event":"dance{number}"}}'),
        ][number % 3 :]
        for text, told in asked:
            writer.say(text)
            expected.append(told)
    assert [writer.hear() for _ in expected] == expected


def test_wwfp_answers_keep_their_order(lobby):
    manager = lobby.connect("manager", dialect=Wwfp)
    channels = [fresh() for _ in range(5)]
    for channel in channels:
        manager.open_channel(channel)
    expected = []
    for number, channel in zip(range(MANY), itertools.cycle(channels)):
        turn, ref = number // 5 % 6, f'"{number}"'
        on = {"channel": f'"{channel}"', "ref": ref}
        text, told = [
            (request("subscribe", **on), on_channel("subscribed", channel, ref=ref)),
            (request("trigger", event='"work"', ref=ref), error(503, ref=ref)),
            (request("broadcast", event='"hello"', **on), ok(204, ref=ref)),
            (triggering(channel, "never", ref), error(503, ref=ref)),
            (request("unsubscribe", **on), on_channel("unsubscribed", channel, ref=ref)),
            (triggering(channel, "never", ref), error(453, ref=ref)),
        ][turn]
        manager.say(text)
        expected.append(told)
    manager.say(request("dance", ref='"last"'))
    heard = manager.hear_until(error(400, ref='"last"'))
    assert [text for text in heard if '"ref":' in text] == expected
    events = {delivery("hello", channel, manager.sid) for channel in channels}
    assert {text for text in heard if '"ref":' not in text} == events


# What stands behind a trigger


def test_nothing_is_broadcast_without_a_worker(lobby):
    manager, reader = lobby.connect("manager", dialect=Wwfp), lobby.connect("reader", dialect=Wwfp)
    for _ in range(5):
        channel = fresh()
        manager.open_channel(channel)
        manager.subscribe(channel)
        reader.subscribe(channel)
        said = delivery("hello", channel, manager.sid)
        manager.say(triggering(channel, "never", "1"))
        manager.say(request("broadcast", channel=f'"{channel}"', event='"hello"', ref="2"))
        assert manager.hear() == error(503, ref=1)
        assert sorted([manager.hear(), manager.hear()]) == sorted([ok(204, ref=2), said])
        assert reader.hear() == said


def test_who_closes_hears_of_its_triggers_first(lobby):
    guest = lobby.connect("guest", dialect=Wwfp)
    for number in range(MANY):
        guest.say(request("trigger", event='"work"', ref=str(number)))
    guest.say('{"close":{"ref":"last"}}')
    assert [guest.hear() for _ in range(MANY)] == [error(503, ref=number) for number in range(MANY)]
    assert guest.hear() == answer("closed", f'"sid":"{guest.sid}"', ref='"last"')
    assert guest.hear_close() == 1000


def test_who_disconnects_hears_of_its_triggers_first(lobby):
    writer = lobby.connect("writer")
    for _ in range(MANY):
        writer.say(TRIGGER)
    writer.say('{"disconnect":true}')
    assert [writer.hear() for _ in range(MANY)] == [NO_WORKER] * MANY
    assert writer.hear_close() == 1000


def test_a_session_is_somebody_else_only_behind_its_triggers(lobby):
    joe = lobby.connect("joe", SECRET)
    asked = [
        (TRIGGER, NO_WORKER),
        ('{"logout":true}', '{"loggedOut":true}'),
        (TRIGGER, DENIED),
        (f'{{"authenticate":{{"user":"joe","secret":"{SECRET}"}}}}', '{"authenticated":"joe"}'),
        (TRIGGER, NO_WORKER),
        ('{"authenticate":{"user":"reader"}}', '{"authenticated":"reader"}'),
        (TRIGGER, DENIED),
    ]
    for text, _ in asked:
        joe.say(text)
    assert [joe.hear() for _ in asked] == [told for _, told in asked]


# Sessions that go


@pytest.mark.parametrize("shards", [1, 4], ids="{}-shards".format)
def test_sessions_that_go_with_triggers_open_harm_nobody(start, shards):
    server = start(shards=shards)
    vhost = Vhost(server, "/test")
    vhost.add_user("manager", "read,write,manage")
    listener = vhost.connect("manager", dialect=Wwfp)
    listener.open_channel("hall")
    listener.subscribe("hall")
    for number in range(20):
        guest = Wwfp(server, vhost.path)
        guest.authenticate("manager")
        guest.subscribe("hall")
        for _ in range(100):
            guest.say(request("trigger", event='"work"', ref="1"))
            guest.say(triggering("hall", "never", "2"))
        if number % 2:
            guest.say('{"close":{}}')
        guest.close()
    late = vhost.connect("manager", dialect=Wwfp)
    assert late.ask(request("trigger", event='"work"', ref="3")) == error(503, ref=3)
    listener.hears_nothing()
    vhost.close_sessions()
    assert server.stop() == 0


@pytest.mark.parametrize("shards", [1, 4], ids="{}-shards".format)
def test_a_vhost_goes_while_its_sessions_trigger(start, shards):
    server = start(shards=shards)
    vhost, other = Vhost(server, "/test"), Vhost(server, "/other")
    for each in (vhost, other):
        each.add_user("guest", "read,write")
    flowing = threading.Barrier(8 + 1, timeout=PATIENCE)

    def flood(guest):
        with pytest.raises(ConnectionClosed) as closed:
            for turn in itertools.count():
                for _ in range(50):
                    guest.say(TRIGGER)
                for _ in range(50):
                    assert guest.hear() == NO_WORKER
                if turn == 0:
                    flowing.wait()
        return closed.value.rcvd.code

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        floods = [threads.submit(flood, vhost.connect("guest")) for _ in range(8)]
        flowing.wait()
        server.ctl("vhost", "remove", "/test")
        assert [flood.result() for flood in floods] == [4004] * 8
    assert other.connect("guest").ask(TRIGGER) == NO_WORKER
    vhost.close_sessions()
    other.close_sessions()


def test_triggers_are_counted(start):
    server = start()
    vhost = Vhost(server, "/test")
    vhost.add_user("manager", "read,write,manage")
    manager, nobody = vhost.connect("manager", dialect=Wwfp), vhost.connect(dialect=Wwfp)
    manager.open_channel("hall")
    assert manager.ask(triggering("hall", "never", "1")) == error(453, ref=1)
    manager.subscribe("hall")
    assert manager.ask(triggering("hall", "never", "2")) == error(503, ref=2)
    for _ in range(2):
        assert manager.ask(request("trigger", event='"work"')) == error(503)
        assert nobody.ask(request("trigger", event='"work"')) == error(403)
    # A shard shows its metrics before it reads the session again.
    manager.hears_nothing()
    assert (metric(server, "triggers_total"), metric(server, "triggers_failed_total")) == (3, 3)
    vhost.close_sessions()
