"""What the documents say: the README's worker as it is pasted, and the examples as programs."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from crew import Backed
from patience import PATIENCE, eventually
from wwfp import request

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_ROOT = _PACKAGE.parents[1]
_URL = "wr://TOKEN@localhost/world"


@pytest.fixture
def start_python():
    """Starts Python programs that find this package, and ends them."""
    started = []

    def start_one(*arguments, **environment):
        own = {**os.environ, "PYTHONPATH": str(_PACKAGE / "src"), **environment}
        started.append(subprocess.Popen([sys.executable, *arguments], env=own, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def orders(crew, vhost):
    """Orders over a page's session, and asserts that everybody and the page are told."""
    crew.trigger_until_placed("order", '{"item":"fuel"}')
    ann = crew.browser()
    assert ann.hear() == '{"thanks":{"for":"fuel"}}'
    listener = vhost.browser()
    listener.subscribe("orders")
    assert crew.trigger("order", '{"item":"tea"}')
    assert listener.hear() == '{"ordered":{"item":"tea","by":"ann","channel":"orders"}}'
    assert ann.hear() == '{"thanks":{"for":"tea"}}'


def test_the_worker_of_the_readme(crew, vhost, transport, start_python):
    blocks = (_PACKAGE / "README.md").read_text().split("\n\n")
    begin = next(index for index, block in enumerate(blocks) if "from kosmonaut import" in block)
    pasted = []
    for block in blocks[begin:]:
        if not block.startswith("    "):
            break
        pasted.append(block)
    program = textwrap.dedent("\n\n".join(pasted))
    assert program.count(f'"{_URL}"') == 2
    start_python("-c", program.replace(f'"{_URL}"', f'"{vhost.url(transport)}", transport="{transport}"'))
    orders(crew, vhost)


def test_the_example(crew, vhost, transport, start_python):
    path = _PACKAGE / "examples" / "worker.py"
    process = start_python(path, WEBROCKET_URL=vhost.url(transport), WEBROCKET_TRANSPORT=transport)
    orders(crew, vhost)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    refused = start_python(path, WEBROCKET_URL=vhost.url(transport, token="0" * 40), WEBROCKET_TRANSPORT=transport)
    assert refused.wait(PATIENCE) == 1


def test_the_demos_bot(own_server, start_python):
    """It works on the vhost /demo, which is here as the demo has it."""
    vhost = Backed(own_server, "/demo")
    own_server.ctl("channel", "add", "/demo", "lobby")
    bot = start_python(_ROOT / "examples" / "bot.py", vhost.token, own_server.ready["websocket"])
    assert bot.stdout.readline().startswith("waiting for commands")
    ann = vhost.browser()
    ann.subscribe("lobby")
    said = request("broadcast", channel='"lobby"', event='"message"', data='{"text":"/weather Mars"}', trigger='"command"')
    heard = []

    def is_taken():
        heard.append(ann.ask(said))
        return '"code":503' not in heard[-1]

    eventually(is_taken, True)
    assert heard[-1].startswith('{"message":{"text":"/weather Mars","channel":"lobby","sid":')
    assert ann.hear().startswith('{"message":{"from":"Kosmonaut","text":"Mars: ')
    ann.say(request("trigger", event='"order"', data='{"item":"fuel"}'))
    assert ann.hear() == '{"ordered":{"item":"fuel","for":"ann"}}'
    vhost.close_sessions()
    bot.send_signal(signal.SIGINT)
    assert bot.wait(PATIENCE) == 0
