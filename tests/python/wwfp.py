"""WWFP as a browser speaks it: its answers byte for byte, and sessions that ask for them."""

import json
import re

from session import Connection, request

STATUSES = {
    400: "Bad request",
    402: "Unauthorized",
    403: "Forbidden",
    451: "Invalid channel name",
    453: "Not subscribed",
    454: "Channel not found",
    503: "Service unavailable",
}
DONE = {204: "Broadcasted", 205: "Triggered"}

# So many names that hardly a shard owns none of them.
_NOWHERE = 24

_CONNECTED = re.compile(r'\{":connected":\{"sid":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"\}\}')


def answer(event, /, *members, ref=None):
    """The text of an answer; members are JSON texts with their names, `ref` is the JSON text to be echoed."""
    named = [*members, *([] if ref is None else [f'"ref":{ref}'])]
    return f'{{":{event}":{{{",".join(named)}}}}}'


def error(code, *, ref=None, reason=None):
    because = [] if reason is None else [f'"reason":"{reason}"']
    return answer("error", f'"code":{code}', f'"status":"{STATUSES[code]}"', *because, ref=ref)


def ok(code, *, ref):
    return answer("ok", f'"code":{code}', f'"status":"{DONE[code]}"', ref=ref)


def on_channel(event, channel, *, ref=None):
    return answer(event, f'"channel":"{channel}"', ref=ref)


def subscribed(channel, uid=None, present=None, *, total=None, ref=None):
    """`present` are the list's entries as JSON texts."""
    members = [f'"channel":"{channel}"']
    if uid is not None:
        members.append(f'"uid":{json.dumps(uid)}')
    if present is not None:
        members.append(f'"subscribers":[{",".join(present)}]')
    if total is not None:
        members.append(f'"total":{total}')
    return answer("subscribed", *members, ref=ref)


def _of_member(event, channel, uid, data):
    members = [f'"uid":{json.dumps(uid)}', f'"channel":"{channel}"', *([data] if data else [])]
    return answer(event, *members)


def joined(channel, uid, data=""):
    """`data` is the text of members, without braces."""
    return _of_member("memberJoined", channel, uid, data)


def left(channel, uid, data=""):
    return _of_member("memberLeft", channel, uid, data)


def entry(uid, data=""):
    """An element of a list of those present."""
    return f'{{"uid":{json.dumps(uid)}{"," + data if data else ""}}}'


def delivery(event, channel, sid, data=""):
    """What subscribers receive of a broadcast."""
    return f'{{{json.dumps(event)}:{{{data + "," if data else ""}"channel":"{channel}","sid":"{sid}"}}}}'


class Wwfp(Connection):
    """A session that was greeted. Its requests below are each checked for their success."""

    SUBPROTOCOL = "wwfp"

    def __init__(self, server, path, *, subprotocols=(SUBPROTOCOL,), **options):
        super().__init__(server, path, subprotocols=list(subprotocols) or None, **options)
        greeting = self.hear()
        greeted = _CONNECTED.fullmatch(greeting)
        assert greeted, greeting
        self.sid = greeted[1]

    def authenticate(self, user, secret=None):
        members = {"user": json.dumps(user), "secret": None if secret is None else json.dumps(secret)}
        assert self.ask(request("auth", **members)) == answer("authenticated")

    def present_token(self, token):
        assert self.ask(request("auth", token=f'"{token}"')) == answer("authenticated")

    def subscribe(self, channel, uid=None):
        """Of an open channel without, of a private one with the session's `uid`."""
        assert self.ask(request("subscribe", channel=f'"{channel}"')) == subscribed(channel, uid)

    def attend(self, channel, uid, present=(), **members):
        """Subscribes a presence channel on which `present` is the list of entries, and hears itself join if visible."""
        heard = self.ask(request("subscribe", channel=f'"{channel}"', **members))
        assert heard == subscribed(channel, uid, present)
        if members.get("hidden") != "true":
            assert self.hear() == joined(channel, uid, members.get("data", "{}")[1:-1])

    def unsubscribe(self, channel, data=None):
        assert self.ask(request("unsubscribe", channel=f'"{channel}"', data=data)) == on_channel("unsubscribed", channel)

    def open_channel(self, channel):
        assert self.ask(request("openChannel", channel=f'"{channel}"')) == on_channel("channelOpened", channel)

    def close_channel(self, channel):
        assert self.ask(request("closeChannel", channel=f'"{channel}"')) == on_channel("channelClosed", channel)

    def broadcast(self, channel, event, data=None):
        """Broadcasts and hears its own copy, and the acknowledgement before or after it."""
        self.say(request("broadcast", channel=f'"{channel}"', event=json.dumps(event), data=data, ref="1"))
        told = [self.hear(), self.hear()]
        assert ok(204, ref=1) in told, told
        told.remove(ok(204, ref=1))
        return told[0]

    def hears_nothing(self):
        """What comes next are answers to requests of now: nothing stood before them.

        They come from the owners of channels that are nowhere, on all shards. What one of them said to this session
        before stands before its answer.
        """
        for number in range(_NOWHERE):
            self.say(request("unsubscribe", channel=f'"nowhere-{number}"', ref=str(number)))
        assert [self.hear() for _ in range(_NOWHERE)] == [error(454, ref=number) for number in range(_NOWHERE)]
