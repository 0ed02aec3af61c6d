"""The programs under test as processes: `Server` is one webrocket-server with its data directory, `run` any of them.

The binaries are taken from the folder in WEBROCKET_BIN (`cargo xtask test` sets it), else from target/debug.
"""

import contextlib
import json
import os
import pathlib
import queue
import re
import secrets
import signal
import subprocess
import threading

from patience import PATIENCE, eventually

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_BINARIES = pathlib.Path(os.environ.get("WEBROCKET_BIN", _ROOT / "target" / "debug"))

_PORTS = ("websocket", "control", "exchange", "stream")


class CommandFailed(Exception):
    """webrocket-ctl ended with a failure; `stderr` is what it said."""

    def __init__(self, arguments, finished):
        super().__init__(f"ctl {' '.join(arguments)}: exit code {finished.returncode}: {finished.stderr.strip()}")
        self.returncode = finished.returncode
        self.stderr = finished.stderr


def run(program, *arguments, input=""):
    """Runs a program to its end, which must come by itself, and returns exit code and outputs as text."""
    return subprocess.run(
        [_BINARIES / program, *map(str, arguments)], input=input, capture_output=True, text=True, timeout=PATIENCE
    )


def start_program(program, *arguments, **environment):
    """Starts a program, which the caller ends; its outputs are piped, as text."""
    return subprocess.Popen(
        [_BINARIES / program, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def _own_host():
    """A loopback address that hardly anybody else has, so that nobody takes the server's ports while it is down."""
    return f"127.{100 + secrets.randbelow(100)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"


class Server:
    """A webrocket-server on ports of a loopback address of its own. `arguments` take the place of the defaults here."""

    def __init__(self, data_dir, *arguments, shards=2, io="auto", log_level="info"):
        self.data_dir = pathlib.Path(data_dir)
        self.log = []
        self._process = None
        host = _own_host()
        own = {
            **{f"--{port}-addr": f"{host}:0" for port in _PORTS},
            **{"--data-dir": data_dir, "--node-name": "test", "--shards": shards, "--io": io},
            **{"--log-format": "json", "--log-level": log_level},
        }
        kept = [word for option in own.items() if option[0] not in arguments for word in option]
        self.arguments = [str(word) for word in (*kept, *arguments)]

    # What it is and says

    @property
    def pid(self):
        return self._process.pid

    @property
    def cookie_file(self):
        return self.data_dir / "test.cookie"

    @property
    def websocket_address(self):
        """Host and port as a pair."""
        return _address(self.ready["websocket"])

    @property
    def control_address(self):
        """Host and port as a pair."""
        return _address(self.ready["control"])

    @property
    def exchange_url(self):
        """Where ZeroMQ clients and workers connect."""
        return f"tcp://{self.ready['exchange']}"

    @property
    def stream_url(self):
        """Where ZeroMQ stream subscribers connect."""
        return f"tcp://{self.ready['streams']}"

    @property
    def control_url(self):
        return f"http://{self.ready['control']}"

    def websocket_url(self, path):
        return f"ws://{self.ready['websocket']}{path}"

    # Life and death

    def start(self):
        """Starts the process and returns once it has said that it is ready."""
        self._process = subprocess.Popen(
            [_BINARIES / "webrocket-server", *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        heard = queue.Queue()
        self._reader = threading.Thread(target=self._read_log, args=(self._process.stderr, heard), daemon=True)
        self._reader.start()
        try:
            self.ready = heard.get(timeout=PATIENCE)
        except queue.Empty:
            self.ready = None
        if self.ready is None:
            self.clean_up()
            raise AssertionError("the server did not become ready:\n" + "\n".join(self.log))
        return self

    def restart(self):
        """Starts it again on the same data directory, on other ports unless they are kept."""
        assert self._process.poll() is not None, "stop or kill it first"
        return self.start()

    def keep_addresses(self):
        """From now on, it starts again where it listens now."""
        for port in _PORTS:
            at = self.arguments.index(f"--{port}-addr") + 1
            self.arguments[at] = self.ready["streams" if port == "stream" else port]
        return self

    def freeze(self):
        """A context in which the process is stopped as by a debugger: it does nothing, and no connection ends."""
        return _frozen(self.pid)

    def stop(self, with_signal=signal.SIGTERM):
        """Asks it to end and returns its exit code once it has."""
        self._process.send_signal(with_signal)
        return self.wait()

    def kill9(self):
        """Ends it without a chance to tidy up."""
        self._process.kill()
        self.wait()

    def wait(self):
        """Returns the exit code once the process has ended and all of its log was read."""
        code = self._process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        return code

    def clean_up(self):
        """Ends whatever is left of it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process is not None:
            self._reader.join(timeout=PATIENCE)

    def check(self):
        """Asserts that it has met no fault of its own."""
        assert not [line for line in self.log if "panicked" in line]

    def end_well(self):
        """Asks it to end, as one that served tests must."""
        code = self.stop()
        assert code == 0, f"exit code {code}:\n" + "\n".join(self.log[-20:])
        self.check()

    def _read_log(self, stream, heard):
        with stream:
            for line in stream:
                self.log.append(line.rstrip("\n"))
                fields = _fields(line)
                if fields.get("message") == "ready":
                    heard.put(fields)
        heard.put(None)

    def logged(self, message):
        """The fields of the lines with this message. While the process lives, lines come late: await them."""
        found = map(_fields, list(self.log))
        return [fields for fields in found if fields.get("message") == message]

    # webrocket-ctl

    def ctl(self, *arguments, input=""):
        """What webrocket-ctl prints for these arguments; raises `CommandFailed` where it fails."""
        own = ("--control-url", self.control_url, "--cookie-file", self.cookie_file)
        finished = run("webrocket-ctl", *own, *arguments, input=input)
        if finished.returncode != 0:
            raise CommandFailed(arguments, finished)
        return finished.stdout

    def ctl_json(self, *arguments):
        return json.loads(self.ctl("--json", *arguments))

    def add_vhost(self, path, *settings):
        """Adds a vhost with `settings` as "key=value" and returns its access token."""
        token = hex_word(self.ctl("vhost", "add", path), 40)
        if settings:
            self.ctl("settings", "set", path, *settings)
        return token

    def add_user(self, vhost, name, rights, secret=None):
        self.ctl("user", "add", vhost, name, "--rights", rights, *(() if secret is None else ("--secret", secret)))

    def channels(self, vhost):
        """The names of the open channels."""
        return [channel["name"] for channel in self.ctl_json("channel", "list", vhost)["channels"]]

    def issue_token(self, vhost, uid, channels, *more):
        return hex_word(self.ctl("token", "issue", vhost, "--uid", uid, "--channels", channels, *more), 128)


@contextlib.contextmanager
def _frozen(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        # Each thread stops by itself, when it gets a processor.
        eventually(lambda: _states(pid), {"T"})
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states(pid):
    """The states of a process's threads, as the kernel abbreviates them."""
    states = set()
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            states.add(stat.read_text().rpartition(") ")[2][0])
    return states


@contextlib.contextmanager
def serving(data_dir, *arguments, **options):
    """A server that must end well."""
    server = Server(data_dir, *arguments, **options).start()
    try:
        yield server
        server.end_well()
    finally:
        server.clean_up()


def hex_word(text, digits):
    """The one word of so many hex digits in `text`."""
    words = re.findall(rf"\b[0-9a-f]{{{digits}}}\b", text)
    assert len(words) == 1, f"expected one word of {digits} hex digits in {text!r}"
    return words[0]


def _fields(line):
    try:
        return json.loads(line).get("fields", {})
    except ValueError:
        return {}


def _address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)
