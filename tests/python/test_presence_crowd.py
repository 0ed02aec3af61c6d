"""Presence under a crowd: whoever looks, at whatever moment, sees a state that fits what he was told.

Hundreds of sessions of both dialects on four shards join, leave, close and die as a seed says. Every one of them
checks each event against its list, and in the end what it knows is the truth.
"""

import json
import random

import pytest

from control import Control
from crowd import Crowd
from presence import Attendance
from session import Vhost, request
from wwfp import Wwfp

CHANNELS = [f"presence-{number}" for number in range(6)]
UIDS, STAYING = 150, 20


class Visitor:
    """A session of the crowd: what it wants, in `here`, and what it is told, in its attendance."""

    def __init__(self, member, uid, token):
        self.member = member
        # By channel, whether it is hidden there.
        self.here = {}
        self.attendance = Attendance(uid)
        self.marks = set()
        self._data = 0
        member.told = self._hear
        self._say("auth" if member.is_wwfp else "authenticate", **({"token": token} if token else {"user": uid}))

    def _say(self, verb, **payload):
        self.member.say(json.dumps({verb: payload}))

    def _hear(self, text):
        event, payload = self.attendance.hear(text)
        assert event not in ("err", ":error"), f"{self.attendance.uid}: {text}"
        if event == "mark":
            self.marks.add(payload["channel"])

    def join(self, channel, chance, *, hidden=None):
        """Joins, or once more: then what it asks for changes nothing."""
        if hidden is None:
            hidden = self.member.is_wwfp and chance.random() < 0.25
        self.attendance.subscribes(channel, hidden=hidden)
        self.here.setdefault(channel, hidden)
        self._data += 1
        data = {"data": {"number": self._data}} if self.member.is_wwfp and chance.random() < 0.7 else {}
        self._say("subscribe", channel=channel, **data, **({"hidden": hidden} if self.member.is_wwfp else {}))

    def leave(self, channel, chance):
        del self.here[channel]
        data = {"data": {"number": -1, "left": True}} if self.member.is_wwfp and chance.random() < 0.5 else {}
        self._say("unsubscribe", channel=channel, **data)

    def go(self, crowd, chance):
        """Ends its session: in good order, or without a word."""
        self.here.clear()
        if chance.random() < 0.5:
            crowd.remove(self.member, reset=chance.random() < 0.5)
        elif self.member.is_wwfp:
            self._say("close", **({"bye": True} if chance.random() < 0.5 else {}))
        else:
            self.member.say('{"disconnect":true}')


class Hall:
    """The vhost, the crowd in it, the way for more to come, and a hidden witness on every channel."""

    def __init__(self, server, crowd, control, seed):
        self.vhost = Vhost(server, crowd.path, "lag_bytes_max=67108864")
        self.chance = random.Random(seed)
        self.inside = []
        self.everybody = []
        self._crowd = crowd
        self._control = control
        for uid in (*(f"u{number}" for number in range(UIDS)), "witness"):
            control.add_user(self.vhost.path, uid, "read")
        control.add_user(self.vhost.path, "herald", "read,write")
        for channel in CHANNELS:
            server.ctl("channel", "add", self.vhost.path, channel)
        self.witness = Visitor(crowd.join("wwfp"), "witness", None)
        for channel in CHANNELS:
            self.witness.join(channel, self.chance, hidden=True)
        self.listen_until(lambda: len(self.witness.attendance.rolls) == len(CHANNELS), "the witness")

    def enter(self):
        """One more visitor, as a user or with a token for the same uid."""
        uid, member = f"u{self.chance.randrange(UIDS)}", self._crowd.join(self.chance.choice(["wwfp", "webrocket"]))
        with_token = self.chance.random() < 0.3
        token = self._control.issue_token(self.vhost.path, uid, "presence-.*") if with_token else None
        visitor = Visitor(member, uid, token)
        self.inside.append(visitor)
        self.everybody.append(visitor)

    def turn(self):
        """Somebody does something, and nobody waits for an answer."""
        visitor, what = self.chance.choice(self.inside), self.chance.random()
        if what < 0.55 or not visitor.here:
            visitor.join(self.chance.choice(CHANNELS), self.chance)
        elif what < 0.85:
            visitor.leave(self.chance.choice(list(visitor.here)), self.chance)
        else:
            self.see_off(visitor)
            self.enter()
        self._crowd.listen()

    def see_off(self, visitor):
        self.inside.remove(visitor)
        visitor.go(self._crowd, self.chance)

    def listen_until(self, happened, what):
        self._crowd.listen_until(happened, what)

    def settle(self):
        """Returns once everybody knows the truth, and has heard a later broadcast without learning anything else."""
        observers = [self.witness, *self.inside]
        self.listen_until(lambda: all(map(self._knows_the_truth, observers)), "the truth")
        herald = self.vhost.connect("herald")
        for channel in CHANNELS:
            herald.broadcast(channel, "mark")
        herald.close()
        self.listen_until(lambda: all(observer.marks == set(observer.here) for observer in observers), "the last word")
        for observer in observers:
            assert self._knows_the_truth(observer)
            observer.marks.clear()

    def _knows_the_truth(self, visitor):
        rolls = visitor.attendance.rolls
        return rolls.keys() == visitor.here.keys() and all(
            rolls[channel].present.keys() == self._present(channel) for channel in visitor.here
        )

    def _present(self, channel):
        return {visitor.attendance.uid for visitor in self.inside if visitor.here.get(channel) is False}


@pytest.mark.parametrize(
    ("visitors", "turns", "seed"), [(150, 1_000, 20), pytest.param(500, 6_000, 21, marks=pytest.mark.nightly)]
)
def test_everybody_knows_who_is_there(start, visitors, turns, seed):
    server = start(shards=4)
    with Crowd(server, "/hall") as crowd, Control(server) as control:
        hall = Hall(server, crowd, control, seed)
        for _ in range(visitors):
            hall.enter()
        for _ in range(2):
            for _ in range(turns // 2):
                hall.turn()
            hall.settle()
        while len(hall.inside) > STAYING:
            hall.see_off(hall.chance.choice(hall.inside))
        hall.settle()
        assert sum(len(visitor.here) for visitor in hall.inside) > STAYING / 2, "there is nothing left to compare"

        rolls_agree(hall)
        assert all_heard_one_order(hall) > turns
        hall.vhost.close_sessions()


def rolls_agree(hall):
    """All who stayed have been told the same data in the same order as one who comes now."""
    newcomer = hall.vhost.connect("witness", dialect=Wwfp)
    for channel in CHANNELS:
        listed = json.loads(newcomer.ask(request("subscribe", channel=f'"{channel}"', hidden="true")))
        entries = [(entry.pop("uid"), entry) for entry in listed[":subscribed"]["subscribers"]]
        for observer in [hall.witness, *hall.inside]:
            if channel in observer.here:
                assert list(observer.attendance.rolls[channel].present.items()) == entries


def all_heard_one_order(hall):
    """What anybody heard in one subscription is what the witness heard at that time, without gap or double.

    Returns how many events were compared.
    """
    compared = 0
    for channel in CHANNELS:
        (heard,) = hall.witness.attendance.heard[channel]
        whole = "\n".join(["", *heard, ""])
        for visitor in hall.everybody:
            for part in visitor.attendance.heard[channel]:
                assert "\n".join(["", *part, ""]) in whole
                compared += len(part)
    return compared
