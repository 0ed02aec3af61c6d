"""The HTTP Backend API: a backend's connection that is kept, and one on which bytes are bytes."""

import base64
import http.client
import json
import socket

from patience import PATIENCE


def basic(token, user="wr"):
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


class Backend:
    """A backend's connection, which is kept."""

    def __init__(self, vhost):
        self.vhost = vhost
        self._headers = {"Authorization": basic(vhost.token)}
        self._connection = http.client.HTTPConnection(*vhost.server.websocket_address, timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def raw(self, method, resource, body=None, **headers):
        """Status, headers and body of an answer. The connection must be the one of the request before."""
        before = self._connection.sock
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, self.vhost.path + resource, body, self._headers | named)
        assert before in (None, self._connection.sock), "it was not kept"
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def ask(self, method, resource, body=None):
        """Status and answer; `body` is text, or what is to be sent as JSON."""
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        sent = text.encode() if isinstance(text, str) else text
        status, headers, answer = self.raw(method, resource, sent)
        assert headers["Content-Type"] == "application/json"
        return status, json.loads(answer)

    def open(self, channel):
        assert self.ask("POST", f"/channels/{channel}") == (202, {})
        return channel

    def broadcast(self, channel, events):
        assert self.ask("POST", f"/channels/{channel}/events", events) == (202, {})

    def refused(self, expected, method, resource, body=None):
        """Asserts the status of a refusal, and returns its sentence."""
        status, answer = self.ask(method, resource, body)
        assert (status, list(answer)) == (expected, ["error"]), answer
        return answer["error"]


def head(vhost, method, resource, *lines, version="1.1", token=None):
    """A request head as bytes."""
    own = [f"{method} {vhost.path}{resource} HTTP/{version}", "Host: test"]
    own.append(f"Authorization: {basic(vhost.token if token is None else token)}")
    return "\r\n".join([*own, *lines, "", ""]).encode()


def post(vhost, resource, body, *lines, **options):
    """A whole request as bytes."""
    return head(vhost, "POST", resource, f"Content-Length: {len(body)}", *lines, **options) + body


class Raw:
    """A connection on which bytes are bytes."""

    def __init__(self, server):
        self._socket = socket.create_connection(server.websocket_address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def finish_sending(self):
        self._socket.shutdown(socket.SHUT_WR)

    def answer_head(self):
        """Status and headers of the next answer."""
        version, status = self._file.readline().split(b" ", 2)[:2]
        assert version in (b"HTTP/1.1", b"HTTP/1.0")
        return int(status), http.client.parse_headers(self._file)

    def status(self):
        """The status of the next answer, of which the body is read too."""
        status, headers = self.answer_head()
        self._file.read(int(headers.get("Content-Length", 0)))
        return status

    def ended(self):
        """Whether the server ends the connection without another byte."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True
