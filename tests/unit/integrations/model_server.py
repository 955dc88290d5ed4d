"""A loopback server that speaks the wire formats of the providers, from a script of answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the model says next.

    Attributes:
        text: its words.
        calls: (id, tool, arguments as JSON) of each tool call.
        status: HTTP status; other than 200 is an error.
        finish: the provider's word; None takes the usual one.
    """

    text: str = ""
    calls: Sequence[tuple[str, str, str]] = ()
    status: int = 200
    finish: str | None = None


@dataclass
class Server:
    """What it is asked, and what it answers.

    Attributes:
        url: where it listens, without a path.
        port: its port.
        answers: still to come; an empty list answers 500.
        bodies: of all requests.
        headers: of all requests, names in lower case.
        paths: of those that were answered.
    """

    url: str = ""
    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    """A server with these answers, until the block ends."""
    state = Server(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.bodies.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            answer = state.answers.pop(0) if state.answers else Answer(status=500)
            if answer.status != 200:
                self._send(json.dumps({"error": {"message": "no", "type": "t"}}), answer.status)
                return
            state.paths.append(self.path)
            form = self.path.partition("?")[0].rpartition("/")[2]
            ident = f"{len(state.bodies)}"
            if body.get("stream"):
                events = EVENTS[form](answer, body | {"ident": ident})
                self._send("".join(events), kind="text/event-stream")
            else:
                self._send(json.dumps(BODIES[form](answer, body | {"ident": ident})))

        def _send(self, text: str, status: int = 200, kind: str = "application/json") -> None:
            raw = text.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(raw)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        state.url = f"http://127.0.0.1:{state.port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


CHAT_USAGE = {
    "prompt_tokens": 107,
    "completion_tokens": 20,
    "total_tokens": 127,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
MESSAGE_USAGE = {
    "input_tokens": 60,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 7,
    "output_tokens": 20,
}


def _finish(answer: Answer, of_calls: str, of_text: str) -> str:
    return answer.finish or (of_calls if answer.calls else of_text)


def chat_body(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    """An answer of the chat completions API."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.calls:
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in answer.calls
        ]
    finish = _finish(answer, "tool_calls", "stop")
    return {
        "id": f"chatcmpl-{body.get('ident', 1)}",
        "object": "chat.completion",
        "created": 1,
        "model": f"{body['model']}-2026-10-01",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": CHAT_USAGE,
    }


def chat_events(answer: Answer, body: dict[str, Any]) -> Iterator[str]:
    """The same in pieces: two of the text, three of each call's arguments."""
    base = {
        "id": f"chatcmpl-{body.get('ident', 1)}",
        "object": "chat.completion.chunk",
        "created": 1,
    }
    base["model"] = f"{body['model']}-2026-10-01"

    def event(delta: dict[str, Any], finish: str | None = None) -> str:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return f"data: {json.dumps(base | {'choices': choices})}\n\n"

    yield event({"role": "assistant", "content": ""})
    for piece in _pieces(answer.text, 2):
        yield event({"content": piece})
    for index, (id_, name, arguments) in enumerate(answer.calls):
        first = {"index": index, "id": id_, "type": "function"}
        yield event({"tool_calls": [first | {"function": {"name": name, "arguments": ""}}]})
        for piece in _pieces(arguments, 3):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield event({}, _finish(answer, "tool_calls", "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps(base | {'choices': [], 'usage': CHAT_USAGE})}\n\n"
    yield "data: [DONE]\n\n"


def message_body(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    """An answer of Anthropic's messages API."""
    content: list[dict[str, Any]] = []
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [
        {"type": "tool_use", "id": id_, "name": name, "input": json.loads(arguments)}
        for id_, name, arguments in answer.calls
    ]
    return {
        "id": f"msg_{body.get('ident', 1)}",
        "type": "message",
        "role": "assistant",
        "model": f"{body['model']}-20261001",
        "content": content,
        "stop_reason": _finish(answer, "tool_use", "end_turn"),
        "stop_sequence": None,
        "usage": MESSAGE_USAGE,
    }


def message_events(answer: Answer, body: dict[str, Any]) -> Iterator[str]:
    """The same in pieces."""
    whole = message_body(answer, body)

    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    begun = whole | {"content": [], "stop_reason": None}
    begun["usage"] = MESSAGE_USAGE | {"output_tokens": 1}
    yield event("message_start", message=begun)
    for index, block in enumerate(whole["content"]):
        if block["type"] == "text":
            yield event("content_block_start", index=index, content_block=block | {"text": ""})
            for piece in _pieces(block["text"], 2):
                delta = {"type": "text_delta", "text": piece}
                yield event("content_block_delta", index=index, delta=delta)
        else:
            yield event("content_block_start", index=index, content_block=block | {"input": {}})
            for piece in _pieces(json.dumps(block["input"]), 3):
                delta = {"type": "input_json_delta", "partial_json": piece}
                yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": 20})
    yield event("message_stop")


def _pieces(text: str, count: int) -> Iterator[str]:
    size = max(1, -(-len(text) // count))
    for start in range(0, len(text), size):
        yield text[start : start + size]


RESPONSE_USAGE = {
    "input_tokens": 107,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 7},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 127,
}


def response_body(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    """An answer of the responses API; its text and its calls are items of their own."""
    ident = body.get("ident", 1)
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": f"rs_{ident}", "summary": []}]
    if answer.text:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        told = {"type": "message", "id": f"msg_{ident}", "role": "assistant"}
        output.append(told | {"status": "completed", "content": [part]})
    output += [
        {
            "type": "function_call",
            "id": f"fc_{id_}",
            "call_id": id_,
            "name": name,
            "arguments": arguments,
            "status": "completed",
        }
        for id_, name, arguments in answer.calls
    ]
    is_cut = answer.finish == "length"
    return {
        "id": f"resp_{ident}",
        "object": "response",
        "created_at": 1,
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "error": None,
        "model": f"{body['model']}-2026-10-01",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSE_USAGE,
    }


def response_events(answer: Answer, body: dict[str, Any]) -> Iterator[str]:
    """The same in pieces, as far as clients and recorders look at them."""
    whole = response_body(answer, body)
    count = 0

    def event(kind: str, **fields: Any) -> str:
        nonlocal count
        count += 1
        told = {"type": kind, "sequence_number": count, **fields}
        return f"event: {kind}\ndata: {json.dumps(told)}\n\n"

    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    for index, item in enumerate(whole["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            empty = item | {"content": []}
            yield event("response.output_item.added", output_index=index, item=empty)
            part = item["content"][0] | {"text": ""}
            yield event("response.content_part.added", **at, content_index=0, part=part)
            for piece in _pieces(item["content"][0]["text"], 2):
                more = {"content_index": 0, "delta": piece, "logprobs": []}
                yield event("response.output_text.delta", **at, **more)
        elif item["type"] == "function_call":
            empty = item | {"arguments": ""}
            yield event("response.output_item.added", output_index=index, item=empty)
            for piece in _pieces(item["arguments"], 3):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{whole['status']}", response=whole)


EVENTS = {"completions": chat_events, "messages": message_events, "responses": response_events}
BODIES = {"completions": chat_body, "messages": message_body, "responses": response_body}
