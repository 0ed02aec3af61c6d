"""A worker as a service: takes orders, answers who ordered, and tells everybody.

    WEBROCKET_URL=wr://TOKEN@localhost/world python3 worker.py

With WEBROCKET_TRANSPORT=http it needs no pyzmq. SIGTERM and SIGINT let it finish the order that it works on.
"""

import logging
import os
import signal
import sys

from kosmonaut import Client, RequestError, Worker

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
url = os.environ["WEBROCKET_URL"]
transport = os.environ.get("WEBROCKET_TRANSPORT", "zmq")
client = Client(url, transport=transport)
worker = Worker(url, filter="order", transport=transport)


@worker.on("order")
def order(trigger):
    item = trigger.data["item"]  # An order without an item raises, is logged, and goes to another worker.
    logging.info("%s orders %s", trigger.uid, item)
    client.broadcast("orders", "ordered", {"item": item, "by": trigger.uid})
    try:
        client.send_message(trigger.sid, "thanks", {"for": item})
    except RequestError as error:
        if error.code != 404:
            raise
        # The browser has gone meanwhile.


for end in (signal.SIGINT, signal.SIGTERM):
    signal.signal(end, lambda *_: worker.stop())
try:
    client.open_channel("orders")
    worker.run()
except RequestError as error:
    sys.exit(f"the server refused: {error}")
