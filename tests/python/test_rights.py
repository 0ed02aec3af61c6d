"""What a vhost's users and settings allow in WWFP, and what becomes of sessions when they change."""

import itertools

import pytest

from session import Session, Vhost, fresh, request
from wwfp import Wwfp, delivery, error, joined, left, ok, on_channel, subscribed


@pytest.fixture
def vhost(plain_server):
    """A vhost without users; channels open, private-one and presence-one are there."""
    with Vhost(plain_server, f"/{fresh('rights')}") as made:
        for channel in ("open", "private-one", "presence-one"):
            plain_server.ctl("channel", "add", made.path, channel)
        yield made


@pytest.fixture
def join(vhost):
    """Opens sessions that speak WWFP."""
    return lambda user=None, **options: vhost.connect(user, dialect=Wwfp, **options)


def subscribe(channel):
    return request("subscribe", channel=f'"{channel}"')


def say_hello(channel, **more):
    return request("broadcast", channel=f'"{channel}"', event='"hello"', ref="1", **more)


# Anonymous sessions


def test_a_vhost_without_users_is_open(vhost, join):
    session, other = join(), join()
    session.subscribe("open")
    other.subscribe("open")
    assert session.broadcast("open", "hello") == other.hear() == delivery("hello", "open", session.sid)
    # Open, but nobody is anybody.
    assert session.ask(say_hello("open", trigger='"work"')) == error(403, ref=1)
    assert session.ask(request("trigger", event='"work"')) == error(403)
    assert session.ask(request("openChannel", channel='"more"')) == error(403)
    for channel in ("private-one", "presence-one"):
        assert session.ask(subscribe(channel)) == error(403)
    # The classic dialect has no open vhosts.
    assert vhost.connect().ask('{"subscribe":{"channel":"open"}}') == '{"err":"ACCESS_DENIED"}'


def test_the_first_user_shuts_and_the_last_one_opens(vhost, join):
    session = join()
    session.subscribe("open")
    vhost.add_user("guest", "read,write")
    assert session.hear() == on_channel("unsubscribed", "open")
    assert session.ask(subscribe("open")) == error(403)
    assert session.ask(say_hello("open")) == error(453, ref=1)
    assert join().ask(subscribe("open")) == error(403)

    guest = join("guest")
    guest.subscribe("open")
    vhost.add_user("other", "read")
    vhost.server.ctl("user", "remove", vhost.path, "other")
    assert session.ask(subscribe("open")) == error(403)
    vhost.server.ctl("user", "remove", vhost.path, "guest")
    session.subscribe("open")
    session.broadcast("open", "hello")


@pytest.mark.parametrize(
    ("rights", "read", "write"), [("none", False, False), ("read", True, False), ("read,write", True, True)]
)
@pytest.mark.parametrize("users", [0, 1])
def test_rights_of_anonymous_sessions(vhost, join, rights, read, write, users):
    if users:
        vhost.add_user("guest", "read")
    vhost.server.ctl("settings", "set", vhost.path, f"anonymous={rights}")
    session = join()
    assert session.ask(subscribe("open")) == (subscribed("open") if read else error(403))
    if write:
        assert session.broadcast("open", "hello") == delivery("hello", "open", session.sid)
    else:
        assert session.ask(say_hello("open")) == error(403 if read else 453, ref=1)
    for channel in ("private-one", "presence-one", "private-nowhere", "presence-nowhere"):
        assert session.ask(subscribe(channel)) == error(403)
        assert session.ask(say_hello(channel)) == error(453, ref=1)


def test_a_changed_setting_ends_what_it_forbids(vhost, join):
    def set_anonymous(rights):
        vhost.server.ctl("settings", "set", vhost.path, f"anonymous={rights}")

    set_anonymous("read,write")
    holder, session = join(), join()
    holder.present_token(vhost.issue_token("tom", "(private-)?one"))
    vhost.server.ctl("channel", "add", vhost.path, "one")
    for channel in ("open", "one"):
        session.subscribe(channel)
    holder.subscribe("open")
    holder.subscribe("one")
    holder.subscribe("private-one", "tom")

    set_anonymous("read")
    assert session.ask(say_hello("open")) == error(403, ref=1)
    set_anonymous("none")
    assert {session.hear(), session.hear()} == {on_channel("unsubscribed", name) for name in ("open", "one")}
    # What its token grants stays.
    assert holder.hear() == on_channel("unsubscribed", "open")
    holder.broadcast("one", "hello")
    holder.broadcast("private-one", "hello")
    assert holder.ask(subscribe("open")) == error(403)
    session.hears_nothing()


# Users


@pytest.mark.parametrize("change", ["remove", "take READ"])
def test_losing_the_right_to_read(vhost, join, change):
    vhost.add_user("victim", "read,write")
    vhost.add_user("witness", "read")
    victims, witness = [join("victim") for _ in range(4)], join("witness")
    witness.attend("presence-one", "witness")
    for victim in victims:
        victim.subscribe("open")
        victim.subscribe("private-one", "victim")
        victim.say(subscribe("presence-one"))
        assert victim.hear().startswith('{":subscribed":{"channel":"presence-one","uid":"victim",')
    if change == "remove":
        vhost.server.ctl("user", "remove", vhost.path, "victim")
    else:
        vhost.server.ctl("user", "set-rights", vhost.path, "victim", "--rights", "write")
    assert [witness.hear(), witness.hear()] == [joined("presence-one", "victim"), left("presence-one", "victim")]
    ends = {on_channel("unsubscribed", channel) for channel in ("open", "private-one", "presence-one")}
    for victim in victims:
        told = [victim.hear() for _ in range(3)]
        if told[0] == joined("presence-one", "victim"):
            told = [*told[1:], victim.hear()]
        assert set(told) == ends
        for channel in ("open", "private-one", "private-nowhere", "presence-one"):
            assert victim.ask(subscribe(channel)) == error(403)
        assert victim.ask(say_hello("open")) == error(453, ref=1)
    witness.hears_nothing()


def test_gaining_and_losing_the_right_to_write_and_to_manage(vhost, join):
    vhost.add_user("guest", "read")
    session = join("guest")
    session.subscribe("open")
    assert session.ask(say_hello("open")) == error(403, ref=1)
    assert session.ask(request("openChannel", channel='"more"')) == error(403)
    vhost.server.ctl("user", "set-rights", vhost.path, "guest", "--rights", "read,write,manage")
    session.broadcast("open", "hello")
    session.open_channel("more")
    vhost.server.ctl("user", "set-rights", vhost.path, "guest", "--rights", "read")
    assert session.ask(say_hello("open")) == error(403, ref=1)
    assert session.ask(request("trigger", event='"work"')) == error(403)
    assert session.ask(request("closeChannel", channel='"more"')) == error(403)
    # READ was never gone, so the subscription was not either.
    session.unsubscribe("open")


def test_a_removed_user_that_comes_again_is_another(vhost, join):
    vhost.add_user("keeper", "read")
    vhost.add_user("victim", "read")
    victim = join("victim")
    vhost.server.ctl("user", "remove", vhost.path, "victim")
    vhost.add_user("victim", "read,write")
    assert victim.ask(subscribe("open")) == error(403)
    victim.authenticate("victim")
    victim.subscribe("open")


def test_a_removed_channel_and_a_removed_vhost(vhost, join):
    vhost.add_user("guest", "read")
    sessions = [join("guest") for _ in range(4)]
    for session in sessions:
        session.subscribe("private-one", "guest")
    vhost.server.ctl("channel", "remove", vhost.path, "private-one")
    for session in sessions:
        assert session.hear() == on_channel("unsubscribed", "private-one")
        assert session.ask(subscribe("private-one")) == error(454)
    vhost.server.ctl("vhost", "remove", vhost.path)
    assert [session.hear_close() for session in sessions] == [4004] * 4
    vhost.server.add_vhost(vhost.path)


# Limits


def limit(*settings):
    return pytest.mark.parametrize("settings", [settings], ids=",".join)


@pytest.fixture
def limited(vhost, join, settings):
    """A manager's session on the vhost with these settings."""
    vhost.server.ctl("settings", "set", vhost.path, *settings)
    vhost.add_user("manager", "read,write,manage")
    return join("manager")


@limit("subscriptions_max=2")
def test_limit_of_subscriptions(limited):
    for channel in ("a", "b", "c"):
        limited.open_channel(channel)
    limited.subscribe("a")
    limited.subscribe("b")
    for ref in (None, "1"):
        heard = limited.ask(request("subscribe", channel='"c"', ref=ref))
        assert heard == error(403, reason="subscription limit reached", ref=ref)
    # Existence comes first, what one has already is no new one, and room is room.
    assert limited.ask(subscribe("nowhere")) == error(454)
    limited.subscribe("b")
    limited.unsubscribe("a")
    limited.subscribe("c")


@limit("subscriptions_max=1")
def test_at_the_limit_of_subscriptions_one_is_swapped_for_another_without_waiting(limited):
    channels = [fresh("swap") for _ in range(9)]
    for channel in channels:
        limited.open_channel(channel)
    limited.subscribe(channels[0])
    for before, after in itertools.pairwise(channels):
        for asked in (request("unsubscribe", channel=f'"{before}"'), subscribe(after), subscribe(after)):
            limited.say(asked)
        assert limited.hear() == on_channel("unsubscribed", before)
        assert [limited.hear(), limited.hear()] == [subscribed(after)] * 2


@limit("channels_max=5")
def test_limit_of_channels(limited):
    limited.open_channel("a")
    limited.open_channel("b")
    for ref in (None, '"r"'):
        heard = limited.ask(request("openChannel", channel='"c"', ref=ref))
        assert heard == error(403, reason="channel limit reached", ref=ref)
    limited.open_channel("b")
    limited.close_channel("a")
    limited.open_channel("c")


@limit("presence_data_bytes_max=16")
@pytest.mark.parametrize("channel", ["open", "private-one", "presence-one", "nowhere"])
def test_limit_of_data(limited, channel):
    """As it was sent, spaces and all, and on every kind of channel."""
    for verb in ("subscribe", "unsubscribe"):
        for data, code, reason in [
            ('{"a":"123456789"}', 400, "data too long"),
            ('{"a":1          }', 400, "data too long"),
            ('{"a":"12345678"}', None, None),
            ('{"a":1         }', None, None),
        ]:
            heard = limited.ask(request(verb, channel=f'"{channel}"', data=data, ref="1"))
            if code is not None:
                assert heard == error(code, reason=reason, ref=1)
            elif verb == "subscribe" and channel != "nowhere":
                assert heard.startswith(f'{{":subscribed":{{"channel":"{channel}"')
                if channel == "presence-one":
                    limited.hear()
                limited.unsubscribe(channel)
            else:
                assert heard == error(454 if channel == "nowhere" else 453, ref=1)


@limit("requests_outstanding_max=2")
def test_few_outstanding_requests_slow_down_and_lose_nothing(limited):
    limited.subscribe("open")
    for number in range(200):
        limited.say(request("broadcast", channel='"open"', event='"tick"', data=str(number), ref=str(number)))
    heard = [limited.hear() for _ in range(400)]
    assert [text for text in heard if '":ok"' in text] == [ok(204, ref=number) for number in range(200)]
    ticks = [delivery("tick", "open", limited.sid, f'"data":{number}') for number in range(200)]
    assert [text for text in heard if '"tick"' in text] == ticks


# The end of the server


def test_shutdown_closes_with_1012(start, io):
    server = start(io=io, shards=4)
    server.add_vhost("/test")
    sessions = [Wwfp(server, "/test") for _ in range(10)]
    assert server.stop() == 0
    assert [session.hear_close() for session in sessions] == [1012] * 10


# Two dialects on one channel


def test_both_dialects_hear_the_same_bytes(lobby):
    manager, guest = lobby.connect("manager", dialect=Wwfp), lobby.connect("writer")
    readers = [lobby.connect("reader", dialect=dialect) for dialect in (Session, Wwfp) * 4]
    for channel in (fresh(), fresh("private"), fresh("presence")):
        manager.open_channel(channel)
        for session in (*readers, manager):
            assert "subscribed" in session.ask(subscribe(channel))
        guest.broadcast(channel, "from classic", '{ "x": 1.50,"sid":"forged", "y":[ 1 ] }')
        manager.say(say_hello(channel, data='"scalar"'))
        own = manager.hear_until(ok(204, ref=1))
        lobby.server.ctl("channel", "remove", lobby.path, channel)
        told = [session.hear_until(told_the_end(session, channel)) for session in (manager, *readers)]
        # Its own copy may have come on either side of the acknowledgement.
        told[0] = own + told[0]
        heard = [[text for text in texts if text.startswith(('{"from', '{"hello'))] for texts in told]
        assert all(texts == heard[0] for texts in heard), heard
        assert heard[0][0].startswith('{"from classic":{"x": 1.50,"y":[ 1 ]')
        assert heard[0][1] == delivery("hello", channel, manager.sid, '"data":"scalar"')


def told_the_end(session, channel):
    """What a session is told when a channel is closed under it."""
    return on_channel("unsubscribed", channel) if isinstance(session, Wwfp) else f'{{"unsubscribed":"{channel}"}}'
