"""A backend for the demo: answers what somebody says in the lobby if it begins with a slash.

The page broadcasts such a message with the trigger `command`. One worker is given it, and answers in the channel.

    PYTHONPATH=clients/kosmonaut-python/src python3 examples/bot.py TOKEN

TOKEN is the access token of the vhost /demo: `webrocket-ctl vhost show /demo`. It speaks HTTP, so that Python is all it
needs; without `transport="http"` the same lines speak ZeroMQ.
"""

import logging
import random
import signal
import sys

from kosmonaut import Client, Worker

if len(sys.argv) not in (2, 3):
    sys.exit("usage: bot.py TOKEN [HOST:PORT]")
URL = f"wr://{sys.argv[1]}@{sys.argv[2] if len(sys.argv) > 2 else '127.0.0.1:9772'}/demo"
SKIES = ["clear skies", "light meteor showers", "solar wind from the west", "a dust storm", "zero gravity until noon"]

client = Client(URL, transport="http")
worker = Worker(URL, filter="command|order", transport="http")


@worker.on("command")
def command(trigger):
    """`data` is the message as it was broadcast: who says it, and the text."""
    text = str(trigger.data.get("text", ""))
    logging.info("%s: %s", trigger.uid, text)
    name, _, rest = text.partition(" ")
    if name == "/weather":
        answer = f"{rest.strip() or 'Baikonur'}: {random.choice(SKIES)}, {random.randint(-90, 40)} °C"
    elif name == "/roll":
        answer = f"{trigger.uid} rolls {random.randint(1, 6)}"
    else:
        answer = "I know /weather PLACE and /roll."
    client.broadcast(trigger.channel or "lobby", "message", {"from": "Kosmonaut", "text": answer})


@worker.on("order")
def order(trigger):
    """Answers the session that ordered, and nobody else."""
    item = trigger.data.get("item")
    logging.info("%s orders %s", trigger.uid, item)
    client.send_message(trigger.sid, "ordered", {"item": item, "for": trigger.uid})


logging.basicConfig(level=logging.INFO, format="%(message)s")
for end in (signal.SIGINT, signal.SIGTERM):
    signal.signal(end, lambda *_: worker.stop())
print(f"waiting for commands from {URL.partition('@')[2]}", flush=True)
worker.run()
