"""A worker as a process of its own, to be killed: appends a line for each trigger to a file, then acknowledges it.

Arguments: address, vhost, access token, window ("" for none, "hold" for one of 5 of which nothing is acknowledged), file.
"""

import json
import os
import sys

import zmq


def main(url, vhost, token, window, path):
    record = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    socket = zmq.Context().socket(zmq.DEALER)
    socket.plain_username, socket.plain_password = vhost.encode(), token.encode()
    socket.connect(url)
    ready = [b"", b"RD", b"", *({"": [], "hold": [b"5"]}.get(window, [window.encode()]))]
    socket.send_multipart(ready)
    while True:
        if not socket.poll(500):
            socket.send_multipart([b"", b"HB"])
            continue
        _, command, *frames = socket.recv_multipart()
        if command == b"TR":
            [(event, members)] = json.loads(frames[0]).items()
            # Written before it is acknowledged: what was acknowledged stands in the file, whatever happens then.
            os.write(record, f"{event} {members.get('number')}\n".encode())
            if window not in ("", "hold"):
                socket.send_multipart([b"", b"AK", frames[1]])
        elif command == b"QT":
            socket.send_multipart(ready)
        elif command == b"HB":
            socket.send_multipart([b"", b"HB"])


if __name__ == "__main__":
    main(*sys.argv[1:])
