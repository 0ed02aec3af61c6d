"""Clients that ask for much and read nothing: what waits for them is bounded by bytes too."""

import json

from metrics import metric
from patience import eventually
from wwfp import Wwfp
from zmtp import RawPeer

MEMBERS = 5
DATA_BYTES = 60_000
# Less than half of their answers find room within 64 MiB and the kernel.
QUESTIONS = 600


def test_long_replies_do_not_pile_up(server, vhost, client):
    server.ctl("settings", "set", vhost.path, "message_bytes_max=100000", f"presence_data_bytes_max={DATA_BYTES}")
    channel = client.open("presence-long")
    for number in range(MEMBERS):
        member = vhost.connect(dialect=Wwfp)
        member.present_token(client.ask("AT", f"u{number}", channel)[1].decode())
        member.say(json.dumps({"subscribe": {"channel": channel, "data": {"text": "x" * (DATA_BYTES - 100)}}}))
        assert member.hear().startswith('{":subscribed":')
    asked, dropped = (metric(server, f"client_{name}_total") for name in ("requests", "replies_dropped"))
    with RawPeer.admitted(server.exchange_url, vhost, b"DEALER", receive_buffer=4096) as greedy:
        for _ in range(QUESTIONS):
            greedy.message(b"", b"PR", channel.encode())
        # Others are answered all the time.
        command, listed = client.ask("PR", channel)
        assert (command, len(json.loads(listed))) == (b"PR", MEMBERS)
        eventually(lambda: (greedy.ping(), metric(server, "client_requests_total") - asked)[1], QUESTIONS + 1)
        eventually(lambda: (greedy.ping(), metric(server, "client_requests_open"))[1], 0)
        dropped = metric(server, "client_replies_dropped_total") - dropped
        assert dropped > QUESTIONS / 2
        for _ in range(QUESTIONS - dropped):
            assert greedy.read_message()[1] == b"PR"
        greedy.message(b"", b"CC", b"-")
        assert greedy.read_message()[1:3] == [b"ER", b"454"]
