"""An exchange that was kept from listening: its workers spoke all the time, so none of them is taken for dead."""

import contextlib
import time

import pytest

from exchange import Worker, all_have_left
from metrics import metric
from patience import eventually

WORKERS = 20
# In seconds, longer than a worker may be silent. Nothing can be awaited: who would tell is stopped.
STOPPED = 4


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_stopped_server_takes_nobody_for_dead(server, vhost):
    all_have_left(server)
    with contextlib.ExitStack() as open_workers:
        workers = [open_workers.enter_context(Worker(vhost)).ready("", "5") for _ in range(WORKERS)]
        expired = metric(server, "workers_expired_total")
        with server.freeze():
            time.sleep(STOPPED)
        for worker in workers:
            worker.hears_nothing()
        eventually(lambda: metric(server, "workers_expired_total"), expired)
        eventually(lambda: metric(server, "workers_zeromq"), WORKERS)
