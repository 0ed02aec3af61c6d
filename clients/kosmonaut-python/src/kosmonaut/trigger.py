"""Triggers as handlers see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trigger:
    """An event that a browser triggered.

    `data` has the members that the browser sent; what was no object is its member `data`. `sid` names the browser's
    session, to answer it with `Client.send_message`. `uid` says who it is, if it is authenticated. `channel` is there
    if the trigger came with a broadcast.
    """

    event: str
    data: dict[str, Any]
    sid: str | None = None
    uid: str | None = None
    channel: str | None = None

    @classmethod
    def from_members(cls, event: str, members: dict[str, Any]) -> "Trigger":
        """Tells the server's members apart from the browser's; the server lets no browser use their names."""
        own = {name: members.pop(name, None) for name in ("sid", "uid", "channel")}
        return cls(event, members, **own)

    @classmethod
    def from_payload(cls, payload: str | bytes) -> "Trigger":
        """Reads `{"<event>":{…}}`. Raises `ValueError` for anything else."""
        decoded = json.loads(payload)
        if not isinstance(decoded, dict) or len(decoded) != 1:
            raise ValueError("a trigger is an object with one member")
        ((event, members),) = decoded.items()
        if not isinstance(members, dict):
            raise ValueError("a trigger's value is an object")
        return cls.from_members(event, members)
