"""The control API over one connection that is kept: for tests that ask it a thousand times."""

import http.client
import json
import urllib.parse

from patience import PATIENCE


class Control:
    """Asks a server's control API as an operator's program does."""

    def __init__(self, server):
        self._connection = http.client.HTTPConnection(*server.control_address, timeout=PATIENCE)
        self._cookie = server.cookie_file.read_text().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def ask(self, method, vhost, resource, body=None):
        """Status and answer of a request about a vhost; `body` is bytes, or what is to be sent as JSON."""
        path = f"/vhosts/{urllib.parse.quote(vhost, safe='')}{resource}"
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(method, path, sent, {"X-WebRocket-Cookie": self._cookie})
        response = self._connection.getresponse()
        read = response.read()
        return response.status, json.loads(read) if read else None

    def add_user(self, vhost, name, rights):
        status, answer = self.ask("POST", vhost, "/users", {"name": name, "rights": rights})
        assert status == 201, answer

    def issue_token(self, vhost, uid, channels, **more):
        status, answer = self.ask("POST", vhost, "/tokens", {"uid": uid, "channels": channels, **more})
        assert status == 200, answer
        return answer["token"]
