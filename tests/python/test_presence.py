"""Who is present on a channel: listed once, told once, with the right data, however sessions come and go."""

import json

import pytest

from control import Control
from crowd import Crowd
from frames import CLOSE, PING, TEXT, RawSocket, frame, subprotocol
from session import Session, Vhost, fresh, request
from wwfp import Wwfp, entry, joined, left, on_channel, subscribed


def attend(channel, **members):
    return request("subscribe", channel=f'"{channel}"', **members)


@pytest.fixture
def join(lobby):
    """Opens sessions that speak WWFP."""
    return lambda user: lobby.connect(user, dialect=Wwfp)


@pytest.fixture
def stage(lobby, join):
    """A presence channel, and a hidden witness of what happens there."""
    channel, witness = fresh("presence"), join("manager")
    witness.open_channel(channel)
    assert witness.ask(attend(channel, hidden="true")) == subscribed(channel, "manager", [])
    return channel, witness


# Sessions of one uid


def test_a_uid_is_present_from_its_first_to_its_last_session(lobby, stage, join):
    """Over all shards and both dialects; what the first one shows is shown."""
    channel, witness = stage
    tabs = [join("guest") if number % 2 else lobby.connect("guest") for number in range(8)]
    first = join("guest")
    first.attend(channel, "guest", data='{"tab":"first"}')
    shown = entry("guest", '"tab":"first"')
    for tab in tabs:
        if isinstance(tab, Wwfp):
            assert tab.ask(attend(channel, data='{"tab":"other"}')) == subscribed(channel, "guest", [shown])
        else:
            tab.subscribe(channel)
            assert tab.hear() == f'{{":presence":{{"channel":"{channel}","subscribers":[{shown}]}}}}'
    # The first one goes, its data stays.
    first.unsubscribe(channel, '{"unseen":1}')
    assert first.ask(attend(channel, hidden="true")) == subscribed(channel, "guest", [shown])
    for number, tab in enumerate(tabs):
        if number % 4 < 2:
            tab.close()
        else:
            tab.unsubscribe(channel)
    assert witness.hear() == joined(channel, "guest", '"tab":"first"')
    assert witness.hear() == left(channel, "guest", '"tab":"first"')
    assert first.hear() == left(channel, "guest", '"tab":"first"')
    witness.hears_nothing()


def test_the_last_session_to_leave_says_how(stage, join):
    channel, witness = stage
    tabs = [join("guest") for _ in range(3)]
    tabs[0].attend(channel, "guest", data='{"a":1,"b":2}')
    for number, tab in enumerate(tabs):
        tab.say(attend(channel))
        tab.say(request("unsubscribe", channel=f'"{channel}"', data=f'{{"b":{number}}}'))
        tab.hear_until(on_channel("unsubscribed", channel))
        assert witness.hear() == joined(channel, "guest", '"a":1,"b":2' if number == 0 else "")
        assert witness.hear() == left(channel, "guest", '"a":1,"b":0' if number == 0 else f'"b":{number}')


# Hidden sessions


def test_hidden_sessions_see_and_are_not_seen(lobby, stage, join):
    channel, witness = stage
    hidden, visible, reader = join("guest"), join("guest"), join("reader")
    assert hidden.ask(attend(channel, hidden="true", data='{"seen":"never"}')) == subscribed(channel, "guest", [])
    reader.attend(channel, "reader")
    assert hidden.hear() == witness.hear() == joined(channel, "reader")
    visible.attend(channel, "guest", [entry("reader")], data='{"seen":true}', hidden="false")
    for session in (hidden, reader, witness):
        assert session.hear() == joined(channel, "guest", '"seen":true')
    visible.unsubscribe(channel)
    for session in (hidden, reader, witness):
        assert session.hear() == left(channel, "guest", '"seen":true')
    # Who is hidden receives what is broadcast, may broadcast, and leaves without a trace.
    sent = hidden.broadcast(channel, "hello")
    assert sent == reader.hear() == witness.hear()
    hidden.unsubscribe(channel, '{"seen":"never"}')
    for session in (reader, witness):
        session.hears_nothing()
    assert lobby.server.ctl_json("channel", "show", lobby.path, channel)["members"] == ["reader"]


# Data


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, ""),
        ("{}", ""),
        ("{ }", ""),
        ('{"a":1}', '"a":1'),
        ('{ "n" : 1.50 , "m":{"uid":[1e400]} }', '"n" : 1.50,"m":{"uid":[1e400]}'),
        ('{"uid":"forged","a":1,"channel":"forged"}', '"a":1'),
        ('{"u\\u0069d":"forged","\\u0063hannel":1}', ""),
        ('{"a":"\\ud800 \\u0000 \\ud83d\\ude80 🚀","\\ud800":"key"}', '"a":"\\ud800 \\u0000 \\ud83d\\ude80 🚀","\\ud800":"key"'),
    ],
)
def test_data_is_shown_as_it_was_sent(stage, join, data, shown):
    channel, witness = stage
    session, other = join("guest"), join("reader")
    session.say(attend(channel, data=data))
    assert [session.hear(), session.hear()] == [subscribed(channel, "guest", []), joined(channel, "guest", shown)]
    other.attend(channel, "reader", [entry("guest", shown)])
    session.hear()
    session.unsubscribe(channel)
    told = [joined(channel, "guest", shown), joined(channel, "reader"), left(channel, "guest", shown)]
    assert [witness.hear() for _ in told] == told


@pytest.mark.parametrize(
    ("join_data", "leave_data", "shown"),
    [
        ('{"a":1,"b":2}', '{"b":3,"c":4}', '"a":1,"b":3,"c":4'),
        ('{"a":1,"b":2}', '{"\\u0062":3}', '"a":1,"\\u0062":3'),
        ('{"\\u0061":1}', '{"a":null}', '"a":null'),
        ("{}", '{"c":4}', '"c":4'),
        ('{"a":{"x":1}}', '{"a":{"y":2}}', '"a":{"y":2}'),
        ('{"a":1}', '{"uid":"forged","ch\\u0061nnel":"forged"}', '"a":1'),
    ],
)
def test_data_of_leaving_overlays_that_of_joining(stage, join, join_data, leave_data, shown):
    channel, witness = stage
    session = join("guest")
    session.attend(channel, "guest", data=join_data)
    session.unsubscribe(channel, leave_data)
    assert [witness.hear(), witness.hear()] == [joined(channel, "guest", join_data[1:-1]), left(channel, "guest", shown)]


def test_a_channel_that_is_closed_forgets_everybody(stage, join):
    channel, witness = stage
    session = join("guest")
    session.attend(channel, "guest", data='{"a":1}')
    witness.hear()
    witness.say(request("closeChannel", channel=f'"{channel}"'))
    witness.hear_until(on_channel("unsubscribed", channel))
    assert session.hear() == on_channel("unsubscribed", channel)
    witness.say(request("openChannel", channel=f'"{channel}"'))
    witness.hear_until(on_channel("channelOpened", channel))
    session.attend(channel, "guest")


# Both dialects


def test_both_dialects_are_told_in_the_same_bytes(lobby, join):
    channel, manager = fresh("presence"), join("manager")
    manager.open_channel(channel)
    listeners = [lobby.connect("reader", dialect=dialect) for dialect in (Session, Wwfp) * 4]
    for listener in listeners:
        assert "subscribed" in listener.ask(attend(channel, hidden="true" if isinstance(listener, Wwfp) else None))
    guest, classic = join("guest"), lobby.connect("guest")
    assert guest.ask(attend(channel, data='{"x": 1.50}')).startswith(f'{{":subscribed":{{"channel":"{channel}","uid":"guest"')
    guest.say(request("unsubscribe", channel=f'"{channel}"', data='{"why":"\\u0062ye"}'))
    guest.hear_until(on_channel("unsubscribed", channel))
    classic.subscribe(channel)
    manager.say(request("closeChannel", channel=f'"{channel}"'))
    told = [joined(channel, "guest", '"x": 1.50'), left(channel, "guest", '"x": 1.50,"why":"\\u0062ye"'), joined(channel, "guest")]
    for listener in listeners:
        end = on_channel("unsubscribed", channel) if isinstance(listener, Wwfp) else f'{{"unsubscribed":"{channel}"}}'
        assert [text for text in listener.hear_until(end) if '"guest"' in text and ":presence" not in text] == told


# Deaths


@pytest.mark.parametrize("dialect", ["webrocket", "wwfp"])
def test_a_connection_that_is_reset_leaves(lobby, stage, dialect):
    channel, witness = stage
    with Crowd(lobby.server, lobby.path) as crowd:
        members = [crowd.join(dialect) for _ in range(4)]
        for member in members:
            member.say(request("auth" if member.is_wwfp else "authenticate", user='"guest"'))
            member.say(attend(channel))
        for member in members:
            crowd.listen_until(lambda: any("subscribed" in text for text in member.heard), "the subscription")
        for member in members:
            crowd.remove(member, reset=True)
    assert [witness.hear(), witness.hear()] == [joined(channel, "guest"), left(channel, "guest")]
    witness.hears_nothing()


def test_one_that_falls_silent_leaves(make_vhost, plain_server):
    """It is there, but it answers no ping; who answers stays."""
    vhost = make_vhost("ping_interval_ms=100", "idle_timeout_ms=3000")
    plain_server.ctl("channel", "add", vhost.path, "presence-one")
    vhost.add_user("witness", "read")
    witness = vhost.connect("witness", dialect=Wwfp)
    witness.attend("presence-one", "witness")
    with RawSocket(plain_server.websocket_address) as silent:
        silent.upgrade(vhost.path, subprotocol("wwfp"))
        silent.send(frame(TEXT, request("auth", user='"guest"')) + frame(TEXT, attend("presence-one", data='{"a":1}')))
        assert [witness.hear(), witness.hear()] == [
            joined("presence-one", "guest", '"a":1'),
            left("presence-one", "guest", '"a":1'),
        ]
        while (received := silent.frame())[0] != CLOSE:
            assert received[0] in (TEXT, PING)
        assert received[1][:2] == (4009).to_bytes(2, "big")
        silent.finish(4009)
    witness.hears_nothing()


# Long lists

MEMBERS = 1_005


def test_a_list_of_more_than_a_thousand_is_cut(start):
    server = start(shards=4)
    # The members read nothing: what they are told finds room in the kernel.
    vhost = Vhost(server, "/test", "lag_bytes_max=67108864", "idle_timeout_ms=600000")
    vhost.add_user("zoe", "read")
    server.ctl("channel", "add", vhost.path, "presence-one")
    witness, zoe, classic = (vhost.connect("zoe", dialect=dialect) for dialect in (Wwfp, Wwfp, Session))
    assert witness.ask(attend("presence-one", hidden="true")) == subscribed("presence-one", "zoe", [])
    with Crowd(server, vhost.path) as crowd, Control(server) as control:
        for number in range(MEMBERS):
            member = crowd.join("wwfp" if number % 2 else "webrocket")
            token = control.issue_token(vhost.path, f"u{number}", ".*")
            member.say(request("auth" if member.is_wwfp else "authenticate", token=f'"{token}"'))
            member.say(attend("presence-one"))
        came = []
        while len(came) < MEMBERS:
            came.append(json.loads(witness.hear())[":memberJoined"]["uid"])
        assert len(set(came)) == MEMBERS

        first = [entry(uid) for uid in came[:1_000]]
        heard = zoe.ask(attend("presence-one", hidden="true", ref="1"))
        assert heard == subscribed("presence-one", "zoe", first, total=MEMBERS, ref=1)
        classic.subscribe("presence-one")
        listed = ",".join(first)
        assert classic.hear() == f'{{":presence":{{"channel":"presence-one","subscribers":[{listed}],"total":{MEMBERS}}}}}'
        assert classic.hear() == witness.hear() == zoe.hear() == joined("presence-one", "zoe")

        # Those behind the cut come into sight when others leave.
        leaving = crowd.members[:MEMBERS - 1_000]
        for member in leaving:
            crowd.remove(member)
        gone = {left("presence-one", f"u{number}") for number in range(len(leaving))}
        assert {zoe.hear() for _ in gone} == gone
        stay = [entry(uid) for uid in came if left("presence-one", uid) not in gone]
        # zoe herself is the last one, and one too many.
        assert zoe.ask(attend("presence-one")) == subscribed("presence-one", "zoe", stay, total=1_001)
        classic.close()
        assert zoe.hear() == left("presence-one", "zoe")
        assert zoe.ask(attend("presence-one")) == subscribed("presence-one", "zoe", stay)
    vhost.close_sessions()
