"""WWFP, answer by answer: every row of docs/protocol.md, its codes, the order of its checks, and what comes unasked.

A request and its answer are compared as bytes. The session is named by its user: None is anonymous, reader, writer,
guest (both) and manager (all) have no secret, joe has one.
"""

import json

import pytest

from session import SECRET, fresh, request
from wwfp import Wwfp, answer, delivery, entry, error, joined, left, ok, on_channel, subscribed

# Channels that are there, one of each kind, and names like them that are nowhere.
HALLS = {"open": "hall", "private": "private-hall", "presence": "presence-hall"}
NOWHERE = {"open": "nowhere", "private": "private-nowhere", "presence": "presence-nowhere"}

# Not one JSON object with a key, or one whose payload is no object: refused before anything else is looked at.
SHAPELESS = [
    "hello", "", " ", "null", "true", "5", '"subscribe"', "[]", "{}", '["subscribe",{"channel":"hall"}]',
    '{"subscribe":{"channel":"hall"}', '{"subscribe":{"channel":"hall"}}}', '{"subscribe"}', "{subscribe:{}}",
    "{'subscribe':{'channel':'hall'}}", '{"subscribe":{"channel":"hall",}}', '{"subscribe":{"ref":1},}',
    '{"subscribe":{"channel":"ha\tll"}}', '{"subscribe":{"ref":1}}{}', '{"subscribe":{"ref":01}}',
    '{"subscribe":{"ref":NaN}}',
    *(f'{{"{verb}":{payload}}}' for verb in ("auth", "subscribe", "unsubscribe", "broadcast", "trigger", "openChannel",
      "closeChannel", "close", "dance") for payload in ("true", "null", "5", '"a"', "[]", '[{"ref":1}]')),
]  # fmt: skip

# Requests of the other dialect and the server's own words are no requests.
UNKNOWN = [
    "dance", "Subscribe", "authenticate", "logout", "disconnect", "subscribed", ":subscribed", ":auth", "subscribe ",
    "", "err",
]  # fmt: skip

# As the value of a member; None leaves the member out.
NOT_NAMES = [None, '""', "null", "5", "true", "{}", '["hall"]', '"\\ud800"']
NO_CHANNELS = ['"bad name"', '".dot"', '"-dash"', '"a/b"', '":presence"', '"smörgås"', '"a\\u0000"', '"private-a b"',
               f'"{"c" * 201}"']  # fmt: skip
NO_EVENTS = [
    '":hello"', '":subscribed"', '"__hello"', '"__proto__"', '"a\\u0001b"', '"a\\nb"', '"a\\u0000b"', f'"{"e" * 201}"',
    f'"{"é" * 101}"', '"authenticated"', '"subscribed"', '"unsubscribed"', '"broadcasted"', '"triggered"',
    '"loggedOut"', '"channelOpened"', '"channelClosed"', '"err"', '"subscri\\u0062ed"',
]  # fmt: skip
EVENTS = ['"hello"', '"_hello"', '"hello: world"', '"héllo"', f'"{"e" * 200}"', '"say \\"hi\\""', '"subscribe"', '"auth"']
NOT_DATA = ["null", "5", "true", '"a"', "[]", '[{"a":1}]']
LONG_DATA = '{"a":"' + "x" * 1017 + '"}'
LONGEST_DATA = '{"a":"' + "x" * 1016 + '"}'

REFERENCES = ["0", "-0", "-12", "99999999999999999999", "9" * 128, '""', '"a"', '"gr\\u00fc\\u00DF \\/"', '"🚀"', f'"{"r" * 126}"']
NO_REFERENCES = ["1.5", "1e3", "null", "true", "[]", "[1]", "{}", '"\\ud800"', "9" * 129, f'"{"r" * 127}"', f'"{"é" * 64}"']


def quoted(name):
    return f'"{name}"'


def auth_rows():
    for wrong in ("null", "5", "true", "{}", "[]", '""'):
        yield None, "auth", {"token": wrong}, 400
        yield None, "auth", {"user": wrong}, 400
        yield None, "auth", {"user": '"ghost"', "token": wrong}, 400
    for wrong in ("null", "5", "{}"):
        yield None, "auth", {"user": '"joe"', "secret": wrong}, 400
        yield None, "auth", {"user": '"ghost"', "secret": wrong}, 400
    yield None, "auth", {}, 400
    yield None, "auth", {"secret": quoted(SECRET)}, 400
    for token in ("abc", "0" * 128, "x" * 128, "0" * 5000):
        yield None, "auth", {"token": quoted(token)}, 402
    for user in ("ghost", "bad name", "u" * 129, "joé", "READER"):
        yield None, "auth", {"user": quoted(user)}, 402
        yield None, "auth", {"user": quoted(user), "secret": quoted(SECRET)}, 402
    yield None, "auth", {"user": '"joe"'}, 402


def subscription_rows():
    for verb in ("subscribe", "unsubscribe"):
        for user in (None, "writer", "reader", "manager"):
            for name in NOT_NAMES:
                yield user, verb, {"channel": name}, 400
            for name in NO_CHANNELS:
                yield user, verb, {"channel": name}, 454
            # Types come before existence, and that before rights.
            for name in (*HALLS.values(), *NOWHERE.values(), "bad name"):
                for data in NOT_DATA:
                    yield user, verb, {"channel": quoted(name), "data": data}, 400
            yield user, verb, {"channel": quoted(NOWHERE["open"]), "data": LONGEST_DATA}, 454
            yield user, verb, {"channel": quoted(NOWHERE["open"])}, 454
    for user in (None, "writer", "reader"):
        for hidden in ("null", "0", '"true"', "{}", "[]"):
            yield user, "subscribe", {"channel": quoted(NOWHERE["open"]), "hidden": hidden}, 400
    for user in (None, "writer"):
        for name in (*HALLS.values(), NOWHERE["private"], NOWHERE["presence"]):
            yield user, "subscribe", {"channel": quoted(name)}, 403
            yield user, "subscribe", {"channel": quoted(name), "data": "{}", "hidden": "true"}, 403
    for kind in ("private", "presence"):
        yield "reader", "subscribe", {"channel": quoted(NOWHERE[kind])}, 454
        yield "reader", "unsubscribe", {"channel": quoted(NOWHERE[kind])}, 454
        yield "manager", "subscribe", {"channel": quoted(NOWHERE[kind])}, 454
        yield None, "unsubscribe", {"channel": quoted(NOWHERE[kind])}, 453
    for name in HALLS.values():
        for user in (None, "reader", "manager"):
            yield user, "unsubscribe", {"channel": quoted(name)}, 453
            yield user, "unsubscribe", {"channel": quoted(name), "data": "{}"}, 453


def broadcast_rows():
    for user in (None, "reader", "guest"):
        for name in NOT_NAMES:
            yield user, "broadcast", {"channel": name, "event": '"hello"'}, 400
            yield user, "broadcast", {"channel": quoted(NOWHERE["open"]), "event": name}, 400
            yield user, "trigger", {"event": name}, 400
            if name is not None:
                yield user, "broadcast", {"channel": quoted(NOWHERE["open"]), "event": '"hello"', "trigger": name}, 400
        for name in NO_EVENTS:
            yield user, "broadcast", {"channel": quoted(NOWHERE["open"]), "event": name}, 400
            yield user, "broadcast", {"channel": '"bad name"', "event": '"hello"', "trigger": name}, 400
            yield user, "trigger", {"event": name}, 400
        for name in NO_CHANNELS:
            yield user, "broadcast", {"channel": name, "event": '"hello"'}, 454
        for event in EVENTS:
            yield user, "broadcast", {"channel": quoted(NOWHERE["open"]), "event": event, "trigger": event}, 454
            yield user, "broadcast", {"channel": quoted(HALLS["open"]), "event": event, "trigger": event}, 453
        for data in ("null", "5", "[]", '"a"', "{}"):
            yield user, "broadcast", {"channel": quoted(HALLS["open"]), "event": '"hello"', "data": data}, 453
    for kind in ("private", "presence"):
        yield None, "broadcast", {"channel": quoted(HALLS[kind]), "event": '"hello"'}, 453
        yield None, "broadcast", {"channel": quoted(NOWHERE[kind]), "event": '"hello"'}, 453
        yield "guest", "broadcast", {"channel": quoted(HALLS[kind]), "event": '"hello"'}, 453
        yield "guest", "broadcast", {"channel": quoted(NOWHERE[kind]), "event": '"hello"'}, 454
    for event in EVENTS:
        yield None, "trigger", {"event": event}, 403
        yield "reader", "trigger", {"event": event}, 403
        yield "writer", "trigger", {"event": event}, 503
        yield "writer", "trigger", {"event": event, "data": "[1]"}, 503


def channel_rows():
    for verb in ("openChannel", "closeChannel"):
        for user in (None, "reader", "writer", "guest"):
            for name in NOT_NAMES:
                yield user, verb, {"channel": name}, 400
            for name in ('"bad name"', quoted(NOWHERE["open"]), quoted(HALLS["open"]), quoted(HALLS["private"])):
                yield user, verb, {"channel": name}, 403
        for name in NOT_NAMES:
            yield "manager", verb, {"channel": name}, 400
        for name in NO_CHANNELS:
            yield "manager", verb, {"channel": name}, 451
    for name in NOWHERE.values():
        yield "manager", "closeChannel", {"channel": quoted(name)}, 454


@pytest.fixture(scope="module")
def halls(furnished_vhost):
    """The furnished vhost with a channel of each kind that nobody is on."""
    for name in HALLS.values():
        furnished_vhost.server.ctl("channel", "add", furnished_vhost.path, name)
    return furnished_vhost


@pytest.fixture
def join(lobby):
    """Opens sessions that speak WWFP."""
    return lambda user=None, secret=None, **options: lobby.connect(user, secret, dialect=Wwfp, **options)


@pytest.mark.parametrize("rows", [auth_rows, subscription_rows, broadcast_rows, channel_rows])
def test_rows_that_are_refused(halls, join, rows):
    """All in one connection a user: no refusal may change what comes after it. The same with and without `ref`."""
    sessions = {user: join(user) for user in (None, "reader", "writer", "guest", "manager")}
    asked, wrong = 0, []
    for user, verb, members, code in rows():
        for ref in (None, "7", '"ref"'):
            text = request(verb, **members, ref=ref)
            heard = sessions[user].ask(text)
            asked += 1
            if heard != error(code, ref=ref):
                wrong.append(f"{user} says {text[:160]}\n   expected {error(code, ref=ref)}\n   answered {heard[:200]}")
    assert asked > 50 and not wrong, "\n".join(wrong)


@pytest.mark.parametrize("user", [None, "manager"])
def test_what_is_no_request(join, user):
    session = join(user)
    for text in SHAPELESS:
        assert session.ask(text) == error(400), text
    for verb in UNKNOWN:
        assert session.ask(request(verb)) == error(400), verb
        assert session.ask(request(verb, ref='"r"')) == error(400, ref='"r"'), verb
    # Only the first key is the event, and only its value the payload.
    assert session.ask('{"dance":{"ref":1},"subscribe":{"channel":"hall","ref":2}}') == error(400, ref=1)


def test_what_refers_to_a_request(join):
    session = join("manager")
    for ref in REFERENCES:
        assert session.ask(request("subscribe", channel='"nowhere"', ref=ref)) == error(454, ref=ref)
        assert session.ask(f'{{"unsubscribe":{{"ref": {ref} , "channel":"nowhere"}}}}') == error(454, ref=ref)
        # However the key is written, and the last of two.
        assert session.ask(f'{{"trigger":{{"ref":1.5,"r\\u0065f":{ref}}}}}') == error(400, ref=ref)
    for ref in NO_REFERENCES:
        for verb in ("auth", "subscribe", "unsubscribe", "broadcast", "trigger", "openChannel", "close", "dance"):
            assert session.ask(request(verb, channel='"nowhere"', event='"e"', ref=ref)) == error(400), ref


# The greeting, auth


def test_every_session_is_greeted_with_a_sid_of_its_own(join):
    assert len({join().sid for _ in range(20)}) == 20


@pytest.mark.parametrize("ref", [None, "7", '"\\u0072"'])
def test_answers_of_success(halls, join, ref):
    """Each with and without `ref`; the answers to broadcasts are told apart below."""
    channel, private, presence = fresh(), fresh("private"), fresh("presence")
    session = join("manager")

    def ask(verb, **members):
        return session.ask(request(verb, **members, ref=ref))

    for name in (channel, private, presence):
        assert ask("openChannel", channel=quoted(name)) == on_channel("channelOpened", name, ref=ref)
        assert ask("openChannel", channel=quoted(name)) == on_channel("channelOpened", name, ref=ref)
    for _ in range(2):
        assert ask("subscribe", channel=quoted(channel)) == subscribed(channel, ref=ref)
        assert ask("subscribe", channel=quoted(private)) == subscribed(private, "manager", ref=ref)
    assert ask("subscribe", channel=quoted(presence)) == subscribed(presence, "manager", [], ref=ref)
    assert session.hear() == joined(presence, "manager")
    assert ask("auth", user='"guest"') == answer("authenticated", ref=ref)
    for name in (channel, private):
        assert ask("unsubscribe", channel=quoted(name)) == error(453, ref=ref)
    assert ask("auth", user='"manager"') == answer("authenticated", ref=ref)
    session.subscribe(channel)
    assert ask("unsubscribe", channel=quoted(channel)) == on_channel("unsubscribed", channel, ref=ref)
    assert ask("unsubscribe", channel=quoted(channel)) == error(453, ref=ref)
    for name in (channel, private, presence):
        assert ask("closeChannel", channel=quoted(name)) == on_channel("channelClosed", name, ref=ref)
        assert ask("closeChannel", channel=quoted(name)) == error(454, ref=ref)
    assert ask("close") == answer("closed", quoted("sid") + ":" + quoted(session.sid), ref=ref)
    assert session.hear_close() == 1000


def test_subscribing_again_is_answered_again_and_changes_nothing(halls, join):
    channel, session, witness = fresh("presence"), join("guest"), join("manager")
    witness.open_channel(channel)
    witness.attend(channel, "manager")
    session.attend(channel, "guest", [entry("manager")], data='{"a":1}')
    heard = session.ask(request("subscribe", channel=quoted(channel), data='{"a":2}', hidden="true"))
    assert heard == subscribed(channel, "guest", [entry("manager"), entry("guest", '"a":1')])
    session.unsubscribe(channel)
    assert [witness.hear(), witness.hear()] == [joined(channel, "guest", '"a":1'), left(channel, "guest", '"a":1')]
    witness.hears_nothing()


def test_auth_with_a_secret(join):
    session = join(source="127.0.4.1")
    for secret in ('"wrong"', '""', None):
        assert session.ask(request("auth", user='"joe"', secret=secret, ref="1")) == error(402, ref=1)
    session.authenticate("joe", SECRET)
    # A name alone is enough for who has no secret; one that is given does not matter.
    session.authenticate("reader", "any")


def test_failed_auth_changes_nothing(halls, join):
    channel, session = fresh(), join("manager", source="127.0.4.2")
    session.open_channel(channel)
    session.subscribe(channel)
    for wrong in ({"token": '"abc"'}, {"user": '"ghost"'}, {"user": '"joe"', "secret": '"wrong"'}):
        assert session.ask(request("auth", **wrong)) == error(402)
    for wrong in ({}, {"token": "5"}, {"user": "null"}):
        assert session.ask(request("auth", **wrong)) == error(400)
    assert session.broadcast(channel, "hello") == delivery("hello", channel, session.sid)
    session.hears_nothing()


def test_auth_drops_subscriptions_and_says_so_to_nobody_but_those_present(halls, join):
    channel, presence, session, witness = fresh(), fresh("presence"), join("guest"), join("manager")
    for name in (channel, presence):
        witness.open_channel(name)
    witness.attend(presence, "manager")
    session.subscribe(channel)
    session.attend(presence, "guest", [entry("manager")])
    session.authenticate("guest")
    session.hears_nothing()
    assert [witness.hear(), witness.hear()] == [joined(presence, "guest"), left(presence, "guest")]
    for name in (channel, presence):
        assert session.ask(request("unsubscribe", channel=quoted(name))) == error(453)
    witness.subscribe(channel)
    witness.broadcast(channel, "hello")
    session.hears_nothing()


# What a session without the right may learn


def test_channels_of_others_are_a_secret(halls, join):
    """Whatever it asks, one answer for channels that are there and that are not."""
    anonymous, holder = join(), join()
    holder.present_token(halls.issue_token("tom", "private-mine"))
    for session in (anonymous, holder):
        for kind in ("private", "presence"):
            for verb, code in (("subscribe", 403), ("unsubscribe", 453), ("broadcast", 453), ("openChannel", 403),
                               ("closeChannel", 403)):  # fmt: skip
                for name in (HALLS[kind], NOWHERE[kind]):
                    text = request(verb, channel=quoted(name), event='"hello"', trigger=None)
                    assert session.ask(text) == error(code), (verb, name)
    # Where its right reaches, it is told.
    assert holder.ask(request("subscribe", channel='"private-mine"')) == error(454)
    assert holder.ask(request("unsubscribe", channel='"private-mine"')) == error(454)


# broadcast, trigger


def test_who_broadcasts_must_subscribe_and_write(halls, join):
    channel, manager, reader, writer = fresh(), join("manager"), join("reader"), join("writer")
    manager.open_channel(channel)
    reader.subscribe(channel)
    say = request("broadcast", channel=quoted(channel), event='"hello"', ref="1")
    assert reader.ask(say) == error(403, ref=1)
    assert writer.ask(say) == error(453, ref=1)
    assert manager.ask(say) == error(453, ref=1)
    manager.subscribe(channel)
    assert manager.broadcast(channel, "hello") == reader.hear() == delivery("hello", channel, manager.sid)
    manager.unsubscribe(channel)
    assert manager.ask(say) == error(453, ref=1)
    reader.hears_nothing()


def test_broadcast_without_ref_is_answered_by_the_event_alone(halls, join):
    channel, session = fresh(), join("manager")
    session.open_channel(channel)
    session.subscribe(channel)
    for event in EVENTS:
        session.say(request("broadcast", channel=quoted(channel), event=event, data='{"x":1.50}'))
    for event in EVENTS:
        # The event's name stands there as its sender wrote it.
        assert session.hear() == f'{{{event}:{{"x":1.50,"channel":"{channel}","sid":"{session.sid}"}}}}'
    session.hears_nothing()


def test_broadcast_with_ref_is_acknowledged_in_order(halls, join):
    channel, session = fresh(), join("manager")
    session.open_channel(channel)
    session.subscribe(channel)
    for number in range(300):
        ref = str(number) if number % 2 else quoted(number)
        session.say(request("broadcast", channel=quoted(channel), event='"tick"', data=str(number), ref=ref))
    heard = [session.hear() for _ in range(600)]
    acknowledged = [text for text in heard if text.startswith('{":ok"')]
    assert acknowledged == [ok(204, ref=number if number % 2 else quoted(number)) for number in range(300)]
    events = [text for text in heard if text.startswith('{"tick"')]
    assert events == [delivery("tick", channel, session.sid, f'"data":{number}') for number in range(300)]


def test_broadcast_that_triggers(halls, join):
    """The trigger comes first, and without a worker nothing is broadcast."""
    channel, session, reader = fresh(), join("manager"), join("reader")
    session.open_channel(channel)
    session.subscribe(channel)
    reader.subscribe(channel)
    triggering = {"channel": quoted(channel), "event": '"hello"', "trigger": '"work"', "data": '{"x":1}'}
    assert session.ask(request("broadcast", **triggering)) == error(503)
    assert session.ask(request("broadcast", **triggering, ref="1")) == error(503, ref=1)
    # Rights come before workers.
    assert reader.ask(request("broadcast", **triggering)) == error(403)
    assert session.broadcast(channel, "next") == reader.hear() == delivery("next", channel, session.sid)


def test_a_broadcast_right_behind_its_subscribe(halls, join):
    channels, manager, session = [fresh() for _ in range(40)], join("manager"), join("guest")
    for channel in channels:
        manager.open_channel(channel)
    for channel in channels:
        session.say(request("subscribe", channel=quoted(channel)))
        session.say(request("broadcast", channel=quoted(channel), event='"first"'))
        session.say(request("unsubscribe", channel=quoted(channel)))
        session.say(request("broadcast", channel=quoted(channel), event='"late"'))
    for channel in channels:
        assert session.hear() == subscribed(channel)
        assert session.hear() == delivery("first", channel, session.sid)
        assert session.hear() == on_channel("unsubscribed", channel)
        assert session.hear() == error(453)
    session.hears_nothing()


def test_answers_come_in_the_order_of_requests(halls, join):
    """Over channels of all shards, and many more requests than may be outstanding."""
    session, channels = join("manager"), [fresh() for _ in range(100)]
    requests, answers = [], []
    for verb, answered in [
        ("openChannel", lambda name: on_channel("channelOpened", name)),
        ("unsubscribe", lambda name: error(453)),
        ("subscribe", subscribed),
        ("unsubscribe", lambda name: on_channel("unsubscribed", name)),
        ("closeChannel", lambda name: on_channel("channelClosed", name)),
        ("subscribe", lambda name: error(454)),
    ]:
        for number, channel in enumerate(channels):
            requests.append(request(verb, channel=quoted(channel)))
            answers.append(answered(channel))
            requests.append(request("dance", ref=str(number)))
            answers.append(error(400, ref=number))
    for text in requests:
        session.say(text)
    assert [session.hear() for _ in answers] == answers


# Ends of subscriptions that nobody asked for


def test_a_closed_channel_is_told_to_its_subscribers(halls, join):
    manager, subscribers = join("manager"), [join("reader") for _ in range(6)]
    for kind in ("c", "private", "presence"):
        channel = fresh(kind)
        manager.open_channel(channel)
        for subscriber in subscribers:
            subscriber.say(request("subscribe", channel=quoted(channel), hidden="true"))
            assert subscriber.hear().startswith(f'{{":subscribed":{{"channel":"{channel}"')
        manager.close_channel(channel)
        for subscriber in subscribers:
            assert subscriber.hear() == on_channel("unsubscribed", channel)
            assert subscriber.ask(request("unsubscribe", channel=quoted(channel))) == error(454)
    manager.hears_nothing()


def test_closing_a_channel_that_one_is_subscribed_to(halls, join):
    manager, channel = join("manager"), fresh()
    manager.open_channel(channel)
    manager.subscribe(channel)
    manager.say(request("closeChannel", channel=quoted(channel), ref="1"))
    assert {manager.hear(), manager.hear()} == {on_channel("channelClosed", channel, ref=1), on_channel("unsubscribed", channel)}


def test_a_channel_stays_without_subscribers(halls, join):
    manager, channel = join("manager"), fresh()
    manager.open_channel(channel)
    session = join("reader")
    for _ in range(3):
        session.subscribe(channel)
        session.unsubscribe(channel)
    manager.close_channel(channel)


# close


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ("{}", '"a":1,"b":2'),
        ('{"why":"done"}', '"a":1,"b":2,"why":"done"'),
        ('{"b":3,"uid":"forged","channel":"forged","ref":5}', '"a":1,"b":3'),
    ],
)
def test_close_passes_its_data_on(halls, join, payload, shown):
    channel, session, witness = fresh("presence"), join("guest"), join("manager")
    witness.open_channel(channel)
    witness.attend(channel, "manager")
    session.attend(channel, "guest", [entry("manager")], data='{"a":1,"b":2}')
    ref = json.loads(payload).get("ref")
    sid = f'"sid":"{session.sid}"'
    assert session.ask(f'{{"close":{payload}}}') == answer("closed", sid, ref=ref)
    assert session.hear_close() == 1000
    assert [witness.hear(), witness.hear()] == [joined(channel, "guest", '"a":1,"b":2'), left(channel, "guest", shown)]


def test_close_with_what_is_no_data(join):
    session = join()
    for payload in NOT_DATA:
        assert session.ask(f'{{"close":{payload}}}') == error(400)
    assert session.ask(f'{{"close":{LONG_DATA}}}') == error(400, reason="data too long")
    session.say(f'{{"close":{LONGEST_DATA}}}')
    assert session.hear() == answer("closed", f'"sid":"{session.sid}"')
    assert session.hear_close() == 1000


def test_answers_come_before_the_close(halls, join):
    session, channels = join("manager"), [fresh() for _ in range(20)]
    for channel in channels:
        session.say(request("openChannel", channel=quoted(channel)))
        session.say(request("subscribe", channel=quoted(channel)))
    session.say(request("close"))
    session.say(request("openChannel", channel='"never"'))
    for channel in channels:
        assert [session.hear(), session.hear()] == [on_channel("channelOpened", channel), subscribed(channel)]
    assert session.hear() == answer("closed", f'"sid":"{session.sid}"')
    assert session.hear_close() == 1000
    assert join("manager").ask(request("closeChannel", channel='"never"')) == error(454)
