"""What subscribers receive, in which order, and who they are."""

import collections
import json
import re
import threading
import uuid

import pytest

from patience import PATIENCE
from session import NO_CHANNEL, Vhost, broadcast, broadcast_until_gone, fresh

# Sessions land on shards by chance, so tests of what holds across shards use this many.
MANY = 8


def pairs(text):
    """The members of a delivery's payload in their order, doubles included, and its event."""
    ((event, members),) = json.loads(text, object_pairs_hook=list)
    return event, members


@pytest.fixture
def pair(lobby):
    """A subscriber, a writer, and the channel between them."""
    channel, subscriber, writer = fresh(), lobby.connect("reader"), lobby.connect("writer")
    subscriber.subscribe(channel)
    return subscriber, writer, channel


# The bytes


@pytest.mark.parametrize(
    "members",
    [
        '"x":1',
        '"x" : 1.0e+2 ,\n\t"y":[ 1 , 2.50,-0 ]',
        '"n":123456789012345678901234567890,"m":1E400,"k":0.1000',
        '"text":"gr\\u00fc\\u00df \\/ \\"dich\\" grüß","emoji":"🚀\\ud83d\\ude80"',
        '"nested":{"channel":"mine","sid":"mine","deeper":[{"sid":1}]}',
        '"Channel":1,"SID":2,"channels":3,"":4',
        '"brace":"}{","bracket":"][","quote":"\\"","backslash":"\\\\"',
        '"x":1,"x":2',
    ],
)
def test_members_are_spliced_verbatim(pair, members):
    subscriber, writer, channel = pair
    writer.broadcast(channel, "hello", f"{{{members}}}")
    received = subscriber.hear()
    expected = rf'\{{"hello":\{{{re.escape(members)}\s*,"channel":"{channel}","sid":"[0-9a-f-]{{36}}"\}}\}}'
    assert re.fullmatch(expected, received), received


@pytest.mark.parametrize("value", ["5", "-1.50e+3", '"text"', '"\\u00fc\\n"', "true", "null", "[]", '[1, {"sid":2}]', '""'])
def test_other_data_is_wrapped(pair, value):
    subscriber, writer, channel = pair
    writer.broadcast(channel, "hello", value)
    received = subscriber.hear()
    expected = rf'\{{"hello":\{{"data":{re.escape(value)},"channel":"{channel}","sid":"[0-9a-f-]{{36}}"\}}\}}'
    assert re.fullmatch(expected, received), received


@pytest.mark.parametrize("data", [None, "{}", "{ }"])
def test_no_data_adds_nothing(pair, data):
    subscriber, writer, channel = pair
    writer.broadcast(channel, "hello", data)
    received = subscriber.hear()
    assert re.fullmatch(rf'\{{"hello":\{{\s*"channel":"{channel}","sid":"[0-9a-f-]{{36}}"\}}\}}', received), received


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ('{"channel":"forged"}', []),
        ('{"sid":"forged","channel":"forged"}', []),
        ('{"sid":"forged","x":1}', [["x", 1]]),
        ('{"x":1,"sid":"forged"}', [["x", 1]]),
        ('{"x":1,"channel":{"y":[1,"}"]},"z":2}', [["x", 1], ["z", 2]]),
        ('{ "channel" : null , "x" : 1 , "sid" : [ ] , "z" : 2 , "sid" : 3 }', [["x", 1], ["z", 2]]),
        ('{"ch\\u0061nnel":1,"\\u0073\\u0069\\u0064":2,"x":3}', [["x", 3]]),
        ('{"x":3,"si\\u0064":"forged"}', [["x", 3]]),
        ('{"\\u0063hannel":"forged","s\\u0069d":"forged"}', []),
    ],
)
def test_forged_members_are_dropped(pair, data, kept):
    subscriber, writer, channel = pair
    writer.broadcast(channel, "hello", data)
    event, members = pairs(subscriber.hear())
    assert event == "hello"
    assert [list(member) for member in members[:-2]] == kept
    assert [name for name, _ in members[-2:]] == ["channel", "sid"]
    assert members[-2][1] == channel
    assert uuid.UUID(members[-1][1])


def test_data_may_stand_anywhere_in_the_request(pair):
    subscriber, writer, channel = pair
    request = f'{{"broadcast" : {{"data":{{"x":1}},"channel" :"{channel}", "more":[], "event":"hello"}} }}'
    assert writer.ask(request) == f'{{"broadcasted":"{channel}"}}'
    assert subscriber.hear().startswith(f'{{"hello":{{"x":1,"channel":"{channel}","sid":"')


def test_sid_names_the_sender(lobby):
    channel, subscriber = fresh(), lobby.connect("reader")
    subscriber.subscribe(channel)
    senders = [lobby.connect("writer") for _ in range(3)]
    sids = []
    for sender in senders:
        heard = set()
        for _ in range(2):
            sender.broadcast(channel, "hello")
            heard.add(json.loads(subscriber.hear())["hello"]["sid"])
        sids.extend(heard)
    assert len(sids) == len(set(sids)) == len(senders)


# Who receives


def test_the_sender_receives_its_own_if_subscribed(lobby):
    channel, other = fresh(), lobby.connect("reader")
    sender = lobby.connect("guest")
    sender.subscribe(channel)
    other.subscribe(channel)
    sender.say(broadcast(channel, "hello", '{"x":1}'))
    # The acknowledgement may come before or after its own copy.
    first, second = sender.hear(), sender.hear()
    acknowledgement = f'{{"broadcasted":"{channel}"}}'
    assert acknowledgement in (first, second)
    assert other.hear() == (second if first == acknowledgement else first)


def test_subscribing_twice_delivers_once(pair):
    subscriber, writer, channel = pair
    subscriber.subscribe(channel)
    writer.broadcast(channel, "one")
    writer.broadcast(channel, "two")
    assert [pairs(subscriber.hear())[0] for _ in range(2)] == ["one", "two"]


def test_only_subscribers_of_the_channel_receive(lobby):
    writer, channels = lobby.connect("writer"), [fresh() for _ in range(12)]
    subscribers = [lobby.connect("reader") for _ in channels]
    for subscriber, channel in zip(subscribers, channels):
        subscriber.subscribe(channel)
    for channel in channels:
        writer.broadcast(channel, "hello")
        writer.broadcast(channel, "last")
    for subscriber, channel in zip(subscribers, channels):
        heard = [pairs(subscriber.hear()) for _ in range(2)]
        assert [event for event, _ in heard] == ["hello", "last"]
        assert all(dict(members)["channel"] == channel for _, members in heard)
    for subscriber in subscribers:
        for channel in channels:
            subscriber.hears_nothing_of(channel)


def test_one_subscriber_of_many_channels(lobby):
    subscriber, writer, channels = lobby.connect("reader"), lobby.connect("writer"), [fresh() for _ in range(50)]
    for channel in channels:
        subscriber.subscribe(channel)
    for channel in channels:
        writer.broadcast(channel, "hello")
    heard = collections.Counter(dict(pairs(subscriber.hear())[1])["channel"] for _ in channels)
    assert heard == collections.Counter(channels)


def test_vhosts_do_not_hear_each_other(lobby):
    channel = fresh()
    with Vhost(lobby.server, f"/{fresh('other')}/deeper") as other:
        other.add_user("guest", "read,write")
        here, there = lobby.connect("reader"), other.connect("guest")
        here.subscribe(channel)
        # It exists here, and not there.
        assert there.ask(broadcast(channel, "hello")) == NO_CHANNEL
        there.subscribe(channel)
        lobby.connect("writer").broadcast(channel, "here")
        assert pairs(here.hear())[0] == "here"
        there.say(broadcast(channel, "there"))
        told = {there.hear(), there.hear()}
        assert sorted(list(json.loads(text))[0] for text in told) == ["broadcasted", "there"]
        here.hears_nothing_of(channel)


# Order

SENDERS, CHANNELS, EVENTS = 3, 5, 60


def in_parallel(functions):
    """Runs them in a thread each and raises what one of them raised."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=4 * PATIENCE)
        assert not thread.is_alive(), "a session hangs"
    if failures:
        raise failures[0]


def test_all_subscribers_see_one_order_and_senders_theirs(lobby):
    channels = [fresh() for _ in range(CHANNELS)]
    subscribers = [lobby.connect("reader") for _ in range(MANY)]
    senders = [lobby.connect("writer") for _ in range(SENDERS)]
    for subscriber in subscribers:
        for channel in channels:
            subscriber.subscribe(channel)

    def send(number):
        session = senders[number]
        for event in range(EVENTS):
            for channel in channels:
                session.say(broadcast(channel, "hello", f'{{"from":{number},"number":{event}}}'))
        for _ in range(EVENTS):
            for channel in channels:
                assert session.hear() == f'{{"broadcasted":"{channel}"}}'

    in_parallel([lambda number=number: send(number) for number in range(SENDERS)])

    seen = []
    for subscriber in subscribers:
        orders = {channel: [] for channel in channels}
        for _ in range(SENDERS * EVENTS * CHANNELS):
            members = dict(pairs(subscriber.hear())[1])
            orders[members["channel"]].append((members["from"], members["number"]))
        seen.append(orders)
    assert all(orders == seen[0] for orders in seen)
    for order in seen[0].values():
        for number in range(SENDERS):
            assert [event for sender, event in order if sender == number] == list(range(EVENTS))


def test_subscribed_means_every_later_event_and_none_earlier(lobby):
    """Sessions come and go while a sender never pauses."""
    channel, sender, witness = fresh(), lobby.connect("writer"), lobby.connect("reader")
    witness.subscribe(channel)
    visitors, done = [lobby.connect("reader") for _ in range(MANY)], threading.Event()
    last = []

    def send():
        number = 0
        while not done.is_set():
            sender.broadcast(channel, "hello", f'{{"number":{number}}}')
            number += 1
        sender.broadcast(channel, "last")
        last.append(number)

    visits = collections.defaultdict(list)

    def visit(visitor):
        subscribe, unsubscribe = (f'{{"{verb}":{{"channel":"{channel}"}}}}' for verb in ("subscribe", "unsubscribe"))
        subscribed, unsubscribed = f'{{"subscribed":"{channel}"}}', f'{{"unsubscribed":"{channel}"}}'
        for _ in range(10):
            # Nothing may come between the answer to the one and to the other.
            assert visitor.ask(subscribe) == subscribed
            heard = [visitor.hear() for _ in range(5)]
            visitor.say(unsubscribe)
            heard += visitor.hear_until(unsubscribed)
            visits[visitor].append([dict(pairs(text)[1])["number"] for text in heard])
        # This time it stays to the end.
        assert visitor.ask(subscribe) == subscribed

    def visit_all():
        try:
            in_parallel([lambda visitor=visitor: visit(visitor) for visitor in visitors])
        finally:
            done.set()

    in_parallel([send, visit_all])

    def heard_to_the_end(session):
        numbers = []
        while True:
            event, members = pairs(session.hear())
            if event == "last":
                return numbers
            numbers.append(dict(members)["number"])

    assert heard_to_the_end(witness) == list(range(last[0]))
    for visitor in visitors:
        latest = -1
        for numbers in visits[visitor]:
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert numbers[0] > latest
            latest = numbers[-1]
        numbers = heard_to_the_end(visitor)
        assert numbers == list(range(last[0] - len(numbers), last[0]))


# How long channels live


def test_a_channel_made_by_subscribing_goes_with_its_last_subscriber(lobby):
    writer = lobby.connect("writer")
    for channel in [fresh() for _ in range(10)]:
        subscribers = [lobby.connect("reader") for _ in range(3)]
        for subscriber in subscribers:
            subscriber.subscribe(channel)
        for subscriber in subscribers:
            writer.broadcast(channel, "hello")
            subscriber.say(f'{{"unsubscribe":{{"channel":"{channel}"}}}}')
            subscriber.hear_until(f'{{"unsubscribed":"{channel}"}}')
        broadcast_until_gone(writer, channel)


def test_a_channel_made_by_subscribing_goes_when_its_last_subscriber_vanishes(lobby):
    writer = lobby.connect("writer")
    for _ in range(5):
        channel, subscriber = fresh(), lobby.connect("reader")
        subscriber.subscribe(channel)
        writer.broadcast(channel, "hello")
        subscriber.close()
        broadcast_until_gone(writer, channel)


def test_channels_opened_by_ctl_and_by_users_stay(lobby):
    writer, reader, manager = lobby.connect("writer"), lobby.connect("reader"), lobby.connect("manager")
    by_ctl, by_user, by_chance = fresh(), fresh("private"), fresh()
    lobby.server.ctl("channel", "add", lobby.path, by_ctl)
    manager.open_channel(by_user)
    # Opened explicitly after somebody's subscription had made it.
    reader.subscribe(by_chance)
    manager.open_channel(by_chance)
    for channel in (by_ctl, by_user, by_chance):
        reader.subscribe(channel)
        reader.unsubscribe(channel)
        writer.broadcast(channel, "hello")
    assert {by_ctl, by_user, by_chance} <= set(lobby.server.channels(lobby.path))
    lobby.server.ctl("channel", "remove", lobby.path, by_ctl)
    assert writer.ask(broadcast(by_ctl, "hello")) == NO_CHANNEL
