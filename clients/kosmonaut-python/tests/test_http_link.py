"""The stream of events, bytes in and events out."""

import io

import pytest

from kosmonaut.http_link import events
from kosmonaut.trigger import Trigger


@pytest.mark.parametrize(
    "stream, expected",
    [
        (b"", []),
        (b": hello\n\n:\n\n", []),
        (b"event: job\ndata: {}\n\n", [("job", "{}")]),
        (b"event:job\r\ndata:{}\r\nid: 7\r\n\r\n", [("job", "{}")]),
        (b"event:  job \ndata:  {}\n\n", [(" job ", " {}")]),
        (b"event: a:b\ndata: {\ndata: }\n\n", [("a:b", "{\n}")]),
        (b"event: a\n\nevent: b\ndata: {}\n\ndata: {}\n\n", [("b", "{}"), ("message", "{}")]),
        (b"event: a\ndata: {}\n: not yet\nretry: 1\n\nevent: b\ndata: {}\n", [("a", "{}")]),
        ("event: é🚀\ndata: \"é\"\n\n".encode(), [("é🚀", '"é"')]),
    ],
)
def test_events(stream, expected):
    assert list(events(io.BytesIO(stream))) == expected


@pytest.mark.parametrize("payload", ["", "1", "{}", "[]", '{"a":1}', '{"a":{},"b":{}}', '{"a":{}'])
def test_what_is_no_trigger_is_refused(payload):
    with pytest.raises(ValueError):
        Trigger.from_payload(payload)
