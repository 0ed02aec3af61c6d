"""The classic dialect, answer by answer: every row of docs/protocol.md, its errors, and the order of its checks.

A request and its answer are compared as bytes. The session is named by its user: None is anonymous, reader, writer,
guest (both) and manager (all) have no secret, joe has one.
"""

import json

import pytest

from session import (
    BAD_CREDENTIALS,
    BAD_PAYLOAD,
    DANCE,
    DENIED,
    NO_CHANNEL,
    NO_USER,
    NO_WORKER,
    SECRET,
    broadcast,
    broadcast_until_gone,
    fresh,
    request,
    unknown,
)

BAD_CHANNEL = '{"err":"INVALID_CHANNEL_NAME"}'
BAD_EVENT = '{"err":"INVALID_EVENT_NAME"}'
BAD_USER = '{"err":"INVALID_USER_NAME"}'

# Not one JSON object with a key: refused before anything else is looked at.
SHAPELESS = [
    "hello", "", " ", "null", "true", "5", '"subscribe"', "[]", "{}", '["subscribe",{"channel":"a"}]',
    '{"subscribe":{"channel":"a"}', '{"subscribe":{"channel":"a"}}}', '{"subscribe"}', '{subscribe:{"channel":"a"}}',
    "{'subscribe':{'channel':'a'}}", '{"subscribe":{"channel":"a",}}', '{"subscribe":{"channel":"a\tb"}}',
    '{"subscribe":{"channel":"a"}}{}', '{"subscribe":01}', '{"subscribe":NaN}',
    # The manual page's own example lacks quotes, and strict is strict.
    '{"broadcast": {"event": "hello", "channel": "world", data: {"x": 1}}}',
]  # fmt: skip

UNKNOWN = [
    ('{"dance":{}}', '"dance"'),
    ('{"dance":true}', '"dance"'),
    ('{"Subscribe":{"channel":"a"}}', '"Subscribe"'),
    ('{"subscribed":"a"}', '"subscribed"'),
    ('{"authenticated":"joe"}', '"authenticated"'),
    ('{"err":"ACCESS_DENIED"}', '"err"'),
    ('{":presence":{}}', '":presence"'),
    ('{"da\\u006ece":{}}', '"dance"'),
    ('{"say \\"hi\\"":{}}', '"say \\"hi\\""'),
    ('{"":{}}', '""'),
    # Only the first key is the event.
    ('{"dance":1,"subscribe":{"channel":"a"}}', '"dance"'),
]

NOT_OBJECTS = ["true", "null", "5", '"a"', "[]", '[{"channel":"a"}]']

# As the value of a member called channel; None leaves the member out.
CHANNEL_NAMES_REFUSED = [
    None, '""', "null", "5", "{}", '["a"]', '"bad name"', '".dot"', '"-dash"', '"a/b"', '":presence"', '"smörgås"',
    f'"{"c" * 201}"',
]  # fmt: skip

EVENT_NAMES_REFUSED = [
    None, '""', "null", "5", "{}", '":hello"', '"__hello"', '"__proto__"', '"a\\u0001b"', '"a\\nb"', f'"{"e" * 201}"',
    f'"{"é" * 101}"', '"authenticated"', '"subscribed"', '"unsubscribed"', '"broadcasted"', '"triggered"',
    '"loggedOut"', '"channelOpened"', '"channelClosed"', '"err"', '"subscri\\u0062ed"',
]  # fmt: skip

EVENT_NAMES_TAKEN = ['"hello"', '"_hello"', '"hello: world"', '"héllo"', f'"{"e" * 200}"', '"say \\"hi\\""', '"subscribe"']

USER_NAMES_REFUSED = [None, '""', "null", "5", "{}", '"bad name"', '"-joe"', '"@joe"', '"joé"', f'"{"u" * 129}"']


def rows():
    """Everything that needs no preparation: who asks, what, and the answer."""
    for user in (None, "manager"):
        for text in SHAPELESS:
            yield user, text, BAD_PAYLOAD
        for text, event in UNKNOWN:
            yield user, text, unknown(event)

    # Rights come before the payload's shape, and that before any name.
    for event, refused in {
        "subscribe": (None, "writer"),
        "unsubscribe": (None, "writer"),
        "broadcast": (None, "reader"),
        "trigger": (None, "reader"),
        "openChannel": (None, "reader", "writer", "guest"),
        "closeChannel": (None, "reader", "writer", "guest"),
    }.items():
        for user in refused:
            for payload in ("true", "{}", '{"event":"e","channel":"c"}', '{"event":"","channel":""}'):
                yield user, f'{{"{event}":{payload}}}', DENIED

    for user, event in [
        (None, "authenticate"),
        ("reader", "subscribe"),
        ("reader", "unsubscribe"),
        ("writer", "broadcast"),
        ("writer", "trigger"),
        ("manager", "openChannel"),
        ("manager", "closeChannel"),
    ]:
        for payload in NOT_OBJECTS:
            yield user, f'{{"{event}":{payload}}}', BAD_PAYLOAD

    for name in USER_NAMES_REFUSED:
        yield None, request("authenticate", user=name), BAD_USER
    for token in ('""', "null", "5", '"abc"', f'"{"0" * 128}"', f'"{"x" * 128}"', f'"{"0" * 5000}"'):
        yield None, request("authenticate", token=token), BAD_CREDENTIALS

    for user, event in [
        ("reader", "subscribe"),
        ("reader", "unsubscribe"),
        ("manager", "openChannel"),
        ("manager", "closeChannel"),
    ]:
        for name in CHANNEL_NAMES_REFUSED:
            yield user, request(event, channel=name), BAD_CHANNEL
    for name in CHANNEL_NAMES_REFUSED:
        yield "writer", request("broadcast", event='"hello"', channel=name), BAD_CHANNEL

    # The event's name comes before the channel's, and that before its existence.
    for name in EVENT_NAMES_REFUSED:
        yield "writer", request("broadcast", event=name, channel='"nowhere"'), BAD_EVENT
        yield "writer", request("broadcast", event=name, channel='""'), BAD_EVENT
        yield "writer", request("trigger", event=name), BAD_EVENT
    for name in EVENT_NAMES_TAKEN:
        yield "writer", request("broadcast", event=name, channel='"nowhere"'), NO_CHANNEL
        yield "writer", request("trigger", event=name), NO_WORKER
        yield "writer", request("trigger", event=name, data='{"x":1}'), NO_WORKER
    yield "reader", request("unsubscribe", channel='"nowhere"'), NO_CHANNEL
    yield "manager", request("closeChannel", channel='"nowhere"'), NO_CHANNEL
    for kind in ("private", "presence"):
        yield "guest", request("subscribe", channel=f'"{kind}-nowhere"'), DENIED
        yield "writer", request("broadcast", event='"hello"', channel=f'"{kind}-nowhere"'), NO_CHANNEL

    for payload in ("true", "{}", "5", "null"):
        yield None, f'{{"logout":{payload}}}', DENIED
    for payload in ("{}", "[]", "5", "null", '"true"'):
        yield "reader", f'{{"logout":{payload}}}', BAD_PAYLOAD
        yield "reader", f'{{"disconnect":{payload}}}', BAD_PAYLOAD
        yield None, f'{{"disconnect":{payload}}}', BAD_PAYLOAD


def test_rows_without_preparation(lobby):
    """All in one connection a user: no refusal may change what comes after it."""
    sessions = {user: lobby.connect(user) for user in (None, "reader", "writer", "guest", "manager")}
    wrong = []
    for user, text, answer in rows():
        actual = sessions[user].ask(text)
        if actual != answer:
            wrong.append(f"{user} says {text[:160]}\n   expected {answer}\n   answered {actual[:200]}")
    assert not wrong, "\n".join(wrong)


# authenticate


def test_authenticate_with_secret(lobby):
    session = lobby.connect(source="127.0.2.1")
    for secret in ('"wrong"', '""', "5", "null", "{}", None):
        assert session.ask(request("authenticate", user='"joe"', secret=secret)) == BAD_CREDENTIALS
    assert session.ask(request("authenticate", user='"joe"', secret=f'"{SECRET}"')) == '{"authenticated":"joe"}'


def test_authenticate_as_nobody(lobby):
    session = lobby.connect(source="127.0.2.2")
    assert session.ask(request("authenticate", user='"ghost"')) == NO_USER
    assert session.ask(request("authenticate", user='"ghost"', secret='"any"')) == NO_USER
    assert session.ask(request("authenticate", user=f'"{"u" * 128}"')) == NO_USER


def test_authenticate_by_name_alone(lobby):
    assert lobby.connect().ask('{"authenticate":{"user":"reader"}}') == '{"authenticated":"reader"}'


def test_authenticate_with_token_once(lobby):
    token = lobby.issue_token("tom.42@example", "room-.*")
    login = json.dumps({"authenticate": {"token": token}})
    session = lobby.connect()
    assert session.ask(login) == '{"authenticated":"tom.42@example"}'
    assert session.ask(login) == BAD_CREDENTIALS
    assert lobby.connect().ask(login) == BAD_CREDENTIALS


def test_token_opens_exactly_what_its_pattern_matches(lobby):
    room, private = fresh("room"), fresh("private-room")
    session = lobby.connect()
    token = lobby.issue_token("tom", "(private-)?room-[0-9]+")
    assert session.ask(json.dumps({"authenticate": {"token": token}})) == '{"authenticated":"tom"}'

    session.subscribe(room)
    session.say(broadcast(room, "hello"))
    assert sorted(message[:8] for message in (session.hear(), session.hear())) == ['{"broadc', '{"hello"']
    # Anchored at both ends.
    assert session.ask(request("subscribe", channel=f'"x{room}"')) == DENIED
    assert session.ask(request("subscribe", channel=f'"{room}x"')) == DENIED
    # Creating a private channel takes MANAGE, joining it does not.
    assert session.ask(request("subscribe", channel=f'"{private}"')) == DENIED
    assert session.ask(request("openChannel", channel=f'"{private}"')) == DENIED
    lobby.connect("manager").open_channel(private)
    session.subscribe(private)
    assert session.ask('{"logout":true}') == '{"loggedOut":true}'
    assert session.ask(request("subscribe", channel=f'"{room}"')) == DENIED


def test_failed_authentication_changes_nothing(lobby):
    channel, session, writer = fresh(), lobby.connect("reader", source="127.0.2.3"), lobby.connect("writer")
    session.subscribe(channel)
    assert session.ask(request("authenticate", user='"joe"', secret='"wrong"')) == BAD_CREDENTIALS
    assert session.ask(request("authenticate", user='""')) == BAD_USER
    assert session.ask('{"authenticate":5}') == BAD_PAYLOAD
    assert session.ask(request("authenticate", token='"abc"')) == BAD_CREDENTIALS
    writer.broadcast(channel, "hello")
    assert session.hear().startswith('{"hello":')
    session.unsubscribe(channel)


def test_successful_authentication_drops_subscriptions(lobby):
    channel, session, writer = fresh(), lobby.connect("reader"), lobby.connect("writer")
    session.subscribe(channel)
    session.authenticate("guest")
    # It was the only subscriber, so the channel goes with it.
    broadcast_until_gone(writer, channel)
    session.subscribe(channel)


# subscribe, unsubscribe


def test_subscribe_creates_unsubscribe_removes(lobby):
    session = lobby.connect("reader")
    for channel in [fresh() for _ in range(20)] + ["_under.score-" + fresh(), fresh() + "c" * 180]:
        session.subscribe(channel)
        session.subscribe(channel)
        session.unsubscribe(channel)
        assert session.ask(request("unsubscribe", channel=f'"{channel}"')) == NO_CHANNEL


def test_channel_name_of_200_bytes(lobby):
    session, channel = lobby.connect("reader"), fresh().ljust(200, "c")
    session.subscribe(channel)
    session.unsubscribe(channel)


def test_unsubscribe_without_subscription(lobby):
    channel = fresh()
    lobby.connect("reader").subscribe(channel)
    lobby.connect("reader").unsubscribe(channel)


@pytest.mark.parametrize("kind", ["private", "presence"])
def test_private_and_presence_channels_need_manage_only_to_be_created(lobby, kind):
    channel, guest = fresh(kind), lobby.connect("guest")
    assert guest.ask(request("subscribe", channel=f'"{channel}"')) == DENIED
    lobby.connect("manager").subscribe(channel)
    guest.subscribe(channel)


def test_request_in_other_spellings(lobby):
    channel, session = fresh(), lobby.connect("reader")
    said = f'{{"subscribed":"{channel}"}}'
    assert session.ask(f' \n{{\t"subscribe" : {{ "channel" : "{channel}" }} }}\r\n') == said
    assert session.ask(f'{{"subscr\\u0069be":{{"ch\\u0061nnel":"\\u{ord(channel[0]):04x}{channel[1:]}"}}}}') == said
    assert session.ask(f'{{"subscribe":{{"more":[1,{{}}],"channel":"{channel}"}}}}') == said
    assert session.ask(f'{{"subscribe":{{"channel":"{channel}"}},"unsubscribe":{{"channel":"{channel}"}}}}') == said


# broadcast, trigger


def test_broadcast_never_creates(lobby):
    channel, writer = fresh(), lobby.connect("writer")
    assert writer.ask(broadcast(channel, "hello")) == NO_CHANNEL
    assert writer.ask(broadcast(channel, "hello")) == NO_CHANNEL
    lobby.connect("reader").subscribe(channel)
    writer.broadcast(channel, "hello")
    writer.broadcast(channel, "hello", '{"x":1}')


def test_broadcast_takes_event_names(lobby):
    channel, reader, writer = fresh(), lobby.connect("reader"), lobby.connect("writer")
    reader.subscribe(channel)
    for name in EVENT_NAMES_TAKEN:
        answer = writer.ask(request("broadcast", event=name, channel=f'"{channel}"'))
        assert answer == f'{{"broadcasted":"{channel}"}}'
        assert list(json.loads(reader.hear())) == [json.loads(name)]


# openChannel, closeChannel


def test_open_and_close_channel(lobby):
    manager = lobby.connect("manager")
    for kind in ("c", "private", "presence"):
        channel = fresh(kind)
        manager.open_channel(channel)
        manager.open_channel(channel)
        assert manager.ask(request("closeChannel", channel=f'"{channel}"')) == f'{{"channelClosed":"{channel}"}}'
        assert manager.ask(request("closeChannel", channel=f'"{channel}"')) == NO_CHANNEL


def test_subscribers_are_told_of_a_closed_channel(lobby):
    manager, subscribers = lobby.connect("manager"), [lobby.connect("reader") for _ in range(6)]
    for _ in range(4):
        channel = fresh()
        for subscriber in subscribers:
            subscriber.subscribe(channel)
        assert manager.ask(request("closeChannel", channel=f'"{channel}"')) == f'{{"channelClosed":"{channel}"}}'
        for subscriber in subscribers:
            assert subscriber.hear() == f'{{"unsubscribed":"{channel}"}}'
            assert subscriber.ask(request("unsubscribe", channel=f'"{channel}"')) == NO_CHANNEL


def test_closing_a_channel_that_one_is_subscribed_to(lobby):
    manager, channel = lobby.connect("manager"), fresh()
    manager.subscribe(channel)
    manager.say(request("closeChannel", channel=f'"{channel}"'))
    told = {manager.hear(), manager.hear()}
    assert told == {f'{{"channelClosed":"{channel}"}}', f'{{"unsubscribed":"{channel}"}}'}


# logout, disconnect


def test_logout_takes_rights_and_subscriptions(lobby):
    channel, session, writer = fresh(), lobby.connect("reader"), lobby.connect("writer")
    session.subscribe(channel)
    assert session.ask('{"logout":true}') == '{"loggedOut":true}'
    assert session.ask('{"logout":true}') == DENIED
    assert session.ask(request("subscribe", channel=f'"{channel}"')) == DENIED
    broadcast_until_gone(writer, channel)
    session.authenticate("reader")
    session.subscribe(channel)


@pytest.mark.parametrize("user", [None, "reader"])
def test_disconnect_closes_without_an_answer(lobby, user):
    session = lobby.connect(user)
    session.say('{"disconnect":true}')
    assert session.hear_close() == 1000


# Presence


def joined(channel, uid):
    return f'{{":memberJoined":{{"uid":"{uid}","channel":"{channel}"}}}}'


def left(channel, uid):
    return f'{{":memberLeft":{{"uid":"{uid}","channel":"{channel}"}}}}'


def present(channel, *uids):
    listed = ",".join(f'{{"uid":"{uid}"}}' for uid in uids)
    return f'{{":presence":{{"channel":"{channel}","subscribers":[{listed}]}}}}'


def test_presence_of_one_member_after_the_other(lobby):
    channel = fresh("presence")
    manager, guest, writer = lobby.connect("manager"), lobby.connect("guest"), lobby.connect("writer")
    manager.subscribe(channel)
    assert manager.hear() == present(channel)
    assert manager.hear() == joined(channel, "manager")

    guest.subscribe(channel)
    assert guest.hear() == present(channel, "manager")
    assert guest.hear() == joined(channel, "guest")
    assert manager.hear() == joined(channel, "guest")

    writer.broadcast(channel, "hello")
    for session in (manager, guest):
        assert session.hear().startswith('{"hello":')

    guest.unsubscribe(channel)
    assert manager.hear() == left(channel, "guest")
    # Nothing more came to the one who left: what the channel says next is the list.
    guest.hears_nothing_of(channel)


@pytest.mark.parametrize("way", ["unsubscribe", "logout", "authenticate", "disconnect", "vanish"])
def test_presence_notices_every_way_to_leave(lobby, way):
    channel, manager, guest = fresh("presence"), lobby.connect("manager"), lobby.connect("guest")
    manager.subscribe(channel)
    guest.subscribe(channel)
    manager.hear_until(joined(channel, "guest"))
    guest.hear_until(joined(channel, "guest"))
    if way == "unsubscribe":
        guest.unsubscribe(channel)
    elif way == "logout":
        assert guest.ask('{"logout":true}') == '{"loggedOut":true}'
    elif way == "authenticate":
        guest.authenticate("reader")
    elif way == "disconnect":
        guest.say('{"disconnect":true}')
    else:
        guest.close()
    assert manager.hear() == left(channel, "guest")


def test_presence_counts_a_uid_once(lobby):
    channel, manager = fresh("presence"), lobby.connect("manager")
    tabs = [lobby.connect("guest") for _ in range(3)]
    manager.subscribe(channel)
    manager.hear_until(joined(channel, "manager"))
    tabs[0].subscribe(channel)
    tabs[0].hear_until(joined(channel, "guest"))
    for tab in tabs[1:]:
        tab.subscribe(channel)
        assert tab.hear() == present(channel, "manager", "guest")
    for tab in tabs:
        tab.unsubscribe(channel)
    # One came, one left: the tabs in between are nobody's business.
    assert [manager.hear(), manager.hear()] == [joined(channel, "guest"), left(channel, "guest")]
    manager.hears_nothing_of(channel)


# Order of answers


def test_answers_come_in_the_order_of_requests(lobby):
    """Over channels of all shards, and many more requests than may be outstanding."""
    session, channels = lobby.connect("manager"), [fresh() for _ in range(100)]
    requests, answers = [], []
    for event, answer in [
        ("openChannel", "channelOpened"),
        ("unsubscribe", "unsubscribed"),
        ("subscribe", "subscribed"),
        ("unsubscribe", "unsubscribed"),
        ("closeChannel", "channelClosed"),
    ]:
        for channel in channels:
            requests.append(request(event, channel=f'"{channel}"'))
            answers.append(f'{{"{answer}":"{channel}"}}')
            requests.append(DANCE)
            answers.append(unknown('"dance"'))
    for text in requests:
        session.say(text)
    assert [session.hear() for _ in answers] == answers
