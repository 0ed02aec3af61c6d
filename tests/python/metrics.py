"""What a server tells of itself in numbers: `/metrics` on its control port."""

import contextlib
import http.client
import re

from patience import PATIENCE


def metric(server, name):
    """The sum of all samples of `webrocket_<name>`, of which there must be one."""
    with contextlib.closing(http.client.HTTPConnection(*server.control_address, timeout=PATIENCE)) as connection:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    samples = re.findall(rf"^webrocket_{name}(?:\{{.*\}})? (\d+)$", page, re.MULTILINE)
    assert samples, f"there is no metric webrocket_{name}"
    return sum(map(int, samples))
