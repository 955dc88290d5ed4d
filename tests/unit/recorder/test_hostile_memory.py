"""A text of many megabytes costs the recorder little more than it costs its owner.

The full size is 100 MB, and every kind of text in every place; the bound is the same at every
size.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flightlog
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from tests.torture.size import IS_FULL, sized

TEXT_MB = sized(40, 100)
MOST_MB = 32
SIGNS = {"ascii": "a", "wide": "\U0001f600", "surrogates": "\ud800", "controls": "\x01"}
PLACES = (
    "result", "message", "request", "answer", "args", "args_value", "value", "error", "name",
)  # fmt: skip
CASES = [
    (where, sign)
    for where in PLACES
    for sign in SIGNS
    if IS_FULL or sign == "ascii" or (where, sign) in {("request", "controls"), ("value", "wide")}
]
CHILD = """
import resource, sys
from flightlog import record
from flightlog.recorder.recorder import Recorder
from flightlog.trace.messages import Message, ToolRequest

def peak_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

store, where, sign, size = sys.argv[1], sys.argv[2], chr(int(sys.argv[3])), int(sys.argv[4])
text = sign * (size // len(sign.encode("utf-8", "surrogatepass")))
with Recorder(store, seal_on_close=False) as recorder:
    def write(text):
        with record(recorder) as run:
            if where == "answer":
                run.stopped(answer=text)
            elif where == "message":
                assert run.model_call(prompt=[Message("user", text)])
            elif where == "request":
                request = ToolRequest("1", "t", text)
                assert run.model_call(output=Message("assistant", None, (request,)))
            else:
                fields = {
                    "result": {"result": text},
                    "value": {"result": {"key": [text]}},
                    "args": {"args": text},
                    "args_value": {"args": {"key": [text]}},
                    "error": {"error": text},
                    "name": {"tool_name": text},
                }[where]
                assert run.tool_call(**fields)
    write("short " * 20_000)  # what is loaded and allocated once
    before = peak_mb()
    write(text)
    after = peak_mb()
    assert recorder.dropped_events == 0, recorder.last_error
print(after - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
@pytest.mark.parametrize(("where", "sign"), CASES)
def test_long_text_costs_the_recorder_less_than_32_mb(
    store_path: Path, where: str, sign: str
) -> None:
    size = str(TEXT_MB << 20)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(store_path), where, str(ord(SIGNS[sign])), size],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MOST_MB


@pytest.mark.parametrize("sign", ["a", "é", "\U0001f600"])
def test_long_result_and_message_come_back_whole(store_path: Path, sign: str) -> None:
    from flightlog.trace.messages import Message

    text = sign * 1_000_000
    with flightlog.record(store_path) as run:
        run.tool_call(tool_name="t", result=text)
        run.model_call(prompt=[Message("user", text)])
    store = Store.open(store_path)
    seal_store(store)
    with flightlog.open(store_path) as traces:
        [call] = traces.rows("SELECT result_blob, result_flag, result_bytes FROM tool_calls")
        [message] = traces.rows("SELECT text, text_blob, text_bytes FROM messages")
        [prompt] = traces.prompt(run.run_id, 2)
    assert store.blob(call["result_blob"]) == message["text"] == prompt.text == text
    assert call["result_flag"] is None
    # One text is one blob, whoever says it.
    assert call["result_blob"] == message["text_blob"]
    assert call["result_bytes"] == message["text_bytes"] == len(text.encode())
