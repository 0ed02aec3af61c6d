"""What one session knows of those present on a channel, from its list and the events after it, and nothing else."""

import collections
import json


class Roll:
    """Who is present, by `uid` with the data shown. An event that does not fit is a fault of the server."""

    def __init__(self, entries):
        self.present = {}
        for entry in entries:
            self._add(dict(entry))

    def _add(self, member):
        uid = member.pop("uid")
        assert uid not in self.present, f"{uid} joins who is there"
        self.present[uid] = member

    def hear(self, event, member):
        """`:memberJoined` or `:memberLeft` with its members; returns the `uid`."""
        uid, member = member["uid"], {name: value for name, value in member.items() if name != "channel"}
        if event == ":memberJoined":
            self._add(member)
        else:
            assert event == ":memberLeft", event
            assert uid in self.present, f"{uid} leaves who is not there"
            shown = self.present.pop(uid)
            assert {"uid": uid, **shown, **member} == member, f"{uid} joined as {shown} and left as {member}"
        return uid


class Attendance:
    """One session's subscriptions of presence channels, as it is told of them in either dialect."""

    def __init__(self, uid):
        self.uid = uid
        self.rolls = {}
        # By channel, for one subscription after the other, the texts of the events in it.
        self.heard = collections.defaultdict(list)
        self._asked = collections.defaultdict(collections.deque)
        self._joins = set()

    def subscribes(self, channel, *, hidden):
        """To be told of each request to subscribe before it is sent."""
        self._asked[channel].append(hidden)

    def hear(self, text):
        """Takes in a message; returns its event and payload."""
        ((event, payload),) = json.loads(text).items()
        if event == ":presence" or (event == ":subscribed" and "subscribers" in payload):
            self._list(payload["channel"], payload["subscribers"])
        elif event in (":memberJoined", ":memberLeft"):
            self._move(event, payload, text)
        elif event == ":unsubscribed":
            del self.rolls[payload["channel"]]
        elif event == "unsubscribed":
            del self.rolls[payload]
        return event, payload

    def _list(self, channel, entries):
        roll, hidden = Roll(entries), self._asked[channel].popleft()
        if channel in self.rolls:
            # It had subscribed already: the list tells nothing new.
            assert list(self.rolls[channel].present.items()) == list(roll.present.items())
            return
        self.rolls[channel] = roll
        self.heard[channel].append([])
        if not hidden and self.uid not in roll.present:
            self._joins.add(channel)

    def _move(self, event, payload, text):
        channel = payload["channel"]
        uid = self.rolls[channel].hear(event, payload)
        self.heard[channel][-1].append(text)
        if channel in self._joins:
            # The list is followed by its own joining, with nothing in between.
            assert (event, uid) == (":memberJoined", self.uid)
            self._joins.remove(channel)
