"""The pages in a real browser: nothing is loaded, nothing runs, and a phone shows them whole."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.recorder.record import record
from flightlog.trace.messages import Message

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = '"><script>document.title="owned"</script><img src=http://127.0.0.1:9/x onerror=alert(1)>'
LONG = "w" * 3_000
PHONE = 400
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
OUTER = """<!doctype html><title>test</title>
<iframe id=f width={width} height=800 src="{page}"></iframe>
<pre id=out>none</pre><script>
document.getElementById("f").onload = function () {{
  const inner = this.contentDocument, root = inner.documentElement;
  document.getElementById("out").textContent = JSON.stringify({{
    scroll: root.scrollWidth, width: root.clientWidth, title: inner.title,
    scripts: inner.scripts.length, text: inner.body.innerText.length}});
}};</script>"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here; .ci/run installs it where apt can"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of page, of a store of hostile and long texts."""
    folder = tmp_path_factory.mktemp("pages")
    store = folder / "store"
    for number in range(24):
        side = "baseline" if number % 2 else "candidate"
        with record(
            store, run_id=f"run-{number:02d}", agent=HOSTILE, tenant=LONG, model="m",
            task_id=f"t{number // 4}", variant=side, trial=number % 4 // 2, session_id="s",
            max_steps=9, max_tool_calls=9,
        ) as one:  # fmt: skip
            for step in range(1, 4):
                one.model_call(
                    step=step, request_model=HOSTILE, outcome="ok", cost_usd=0.1, input_tokens=50,
                    output_tokens=5, latency_ms=20.0, prompt=[Message("user", LONG)],
                    output=Message("assistant", HOSTILE + LONG),
                )  # fmt: skip
                one.tool_call(
                    step=step, tool_name=HOSTILE, args={LONG: HOSTILE}, result=LONG, effect="read",
                    outcome="failed" if number >= 18 else "ok", error=HOSTILE, latency_ms=9.0,
                )  # fmt: skip
            one.tool_call(step=4, tool_name=LONG, outcome="denied", error_type=HOSTILE)
            one.evaluation(name="success", passed=number < 18)
            one.stopped(status="completed", stop_reason="ok", answer=HOSTILE)
    base = ["--store", str(store)]
    for command in (
        ["report", "run", "run-20", "-o", "run.html"],
        ["report", "diff", "run-01", "run-20", "-o", "diff.html"],
        ["report", "overview", "-o", "overview.html"],
        ["postmortem", "-o", "postmortem.html"],
        ["postmortem", "run-20", "-o", "closeup.html"],
        ["check", "--baseline", "baseline", "--candidate", "candidate", "-o", "check.html"],
    ):
        *rest, name = command
        assert run([*rest, str(folder / name), *base]) in (0, 1, 2), command
    return folder


@pytest.fixture
def server(pages: Path) -> Iterator[tuple[str, list[str]]]:
    """A loopback server of the pages, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(pages))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}", asked
    served.shutdown()
    served.server_close()
    thread.join()


def browsed(url: str, profile: Path, *options: str) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return done.stdout


@pytest.mark.parametrize("name", ["run", "diff", "overview", "postmortem", "closeup", "check"])
def test_a_page_is_readable_on_a_phone_and_loads_and_runs_nothing(
    pages: Path, server: tuple[str, list[str]], tmp_path: Path, name: str
) -> None:
    base, asked = server
    (pages / f"outer-{name}.html").write_text(OUTER.format(width=PHONE, page=f"{name}.html"))
    dom = browsed(f"{base}/outer-{name}.html", tmp_path, "--virtual-time-budget=4000", "--dump-dom")
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', dom)
    assert found, dom[-500:]
    told = dict(re.findall(r'"(\w+)":("[^"]*"|\d+)', found[1].replace("&quot;", '"')))
    assert int(told["scroll"]) <= int(told["width"]), told
    assert int(told["scripts"]) == 0
    assert int(told["text"]) > 300
    assert "owned" not in told["title"].replace("document.title=", "").replace('\\"owned', "")
    paths = [path for path in asked if not path.endswith("favicon.ico")]
    assert paths == [f"/outer-{name}.html", f"/{name}.html"]


@pytest.mark.parametrize("name", ["run", "postmortem", "overview"])
def test_a_page_can_be_printed(
    pages: Path, server: tuple[str, list[str]], tmp_path: Path, name: str
) -> None:
    paper = tmp_path / "page.pdf"
    browsed(f"{server[0]}/{name}.html", tmp_path / "profile", f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 5_000
