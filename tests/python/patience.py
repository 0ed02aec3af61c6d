"""How long tests wait, and the one way to wait for what nothing tells of by itself."""

import time

# Bound of every wait, in seconds. It turns a hang into a failure and measures nothing: a busy machine keeps within it.
PATIENCE = 60.0
# Between two questions of `eventually`, in seconds.
_PAUSE = 0.02


def eventually(ask, expected):
    """Returns once `ask()` gives `expected`. For a metric or a listing; where a message, a line or an answer comes, await that."""
    deadline = time.monotonic() + PATIENCE
    while (found := ask()) != expected:
        assert time.monotonic() < deadline, f"gave up: expected {expected!r}, found {found!r}"
        time.sleep(_PAUSE)
