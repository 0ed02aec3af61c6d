"""A worker as a process of its own, to be killed. It prints a line for each trigger, then acknowledges it.

Arguments of the process: address, vhost, access token, window ("" for none, "hold" for one of 5 of which nothing is
acknowledged). As a module it gives tests the other end, `WorkerProcess`.
"""

import json
import os
import subprocess
import sys
import threading
import time

import zmq

from patience import PATIENCE

HEARTBEAT_INTERVAL = 0.5


def work(url, vhost, token, window):
    socket = zmq.Context().socket(zmq.DEALER)
    socket.plain_username, socket.plain_password = vhost.encode(), token.encode()
    socket.connect(url)
    ready = [b"", b"RD", b"", *({"": [], "hold": [b"5"]}.get(window, [window.encode()]))]
    socket.send_multipart(ready)
    beaten = time.monotonic()
    while True:
        has_come = socket.poll(int(HEARTBEAT_INTERVAL * 1000))
        # However much comes: without a window nothing else is said.
        if time.monotonic() - beaten >= HEARTBEAT_INTERVAL:
            socket.send_multipart([b"", b"HB"])
            beaten = time.monotonic()
        if not has_come:
            continue
        _, command, *frames = socket.recv_multipart()
        if command == b"TR":
            [(event, members)] = json.loads(frames[0]).items()
            # Told before it is acknowledged: what was acknowledged is in the pipe, whatever happens then.
            os.write(sys.stdout.fileno(), f"{event} {json.dumps(members.get('number'))}\n".encode())
            if window not in ("", "hold"):
                socket.send_multipart([b"", b"AK", frames[1]])
        elif command == b"QT":
            socket.send_multipart(ready)


class WorkerProcess:
    """The process, and what it tells: the event and the number of each trigger that it has handled so far."""

    def __init__(self, vhost, window, told=None):
        """`told`, a condition, is notified of each trigger."""
        self.events, self.numbers = set(), []
        self._handled = []
        self._told = told or threading.Condition()
        self._taken = 0
        arguments = [vhost.server.exchange_url, vhost.path, vhost.token, window]
        self._process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def next_handled(self):
        with self._told:
            assert self._told.wait_for(lambda: len(self._handled) > self._taken, PATIENCE), "it handles nothing"
            self._taken += 1
            return self._handled[self._taken - 1]

    def kill(self):
        """Returns once it is dead and all that it told was read."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self):
        with self._process.stdout as lines:
            for line in lines:
                event, text = line.decode().split()
                number = json.loads(text)
                with self._told:
                    self._handled.append((event, number))
                    self.events.add(event)
                    if number is not None:
                        self.numbers.append(number)
                    self._told.notify_all()


if __name__ == "__main__":
    work(*sys.argv[1:])
