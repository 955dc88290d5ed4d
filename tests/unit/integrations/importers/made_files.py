"""Good files of formats that others write, made up: two runs each, one with a failing tool."""

from __future__ import annotations

from typing import Any

ARGS = {"order_id": "R1"}
HELLO = "Where is R1?"


def atif() -> list[dict[str, Any]]:
    """Two trajectories of harbor's."""
    step = {
        "step_id": 3,
        "timestamp": "2026-01-01T10:00:02Z",
        "source": "agent",
        "model_name": "model-a",
        "message": "I look.",
        "tool_calls": [{"tool_call_id": "c1", "function_name": "get_order", "arguments": ARGS}],
        "observation": {"results": [{"source_call_id": "c1", "content": "shipped"}]},
        "metrics": {
            "prompt_tokens": 90,
            "completion_tokens": 9,
            "cached_tokens": 40,
            "cost_usd": 0.01,
        },
    }
    last = {"step_id": 4, "source": "agent", "message": "It is shipped.", "metrics": None}
    first = {
        "schema_version": "ATIF-v1.7",
        "session_id": "s1",
        "agent": {"name": "desk", "version": "1.0", "model_name": "model-a"},
        "steps": [
            {"step_id": 1, "source": "system", "message": "Be kind."},
            {"step_id": 2, "source": "user", "message": HELLO, "timestamp": "2026-01-01T10:00:00Z"},
            step,
            last | {"timestamp": "2026-01-01T10:00:04Z"},
        ],
        "final_metrics": {"total_cost_usd": 0.02},
    }
    copied = [{**one, "is_copied_context": True} for one in first["steps"]]
    second = first | {"session_id": "s2", "steps": [*copied, last]}
    return [first, second]


def swe_agent() -> list[dict[str, Any]]:
    """A trajectory of mini-swe-agent, and one of SWE-agent."""
    mini = {
        "trajectory_format": "mini-swe-agent-1",
        "instance_id": "t1",
        "info": {
            "exit_status": "Submitted",
            "mini_version": "1.14.0",
            "model_stats": {"instance_cost": 0.05, "api_calls": 2},
            "config": {"model": {"model_name": "model-a"}},
        },
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": HELLO},
            {"role": "assistant", "content": "I look.\n```bash\ncat R1\n```"},
            {"role": "user", "content": "<returncode>1</returncode>\n<output>no R1</output>"},
            {"role": "assistant", "content": "Done."},
        ],
    }
    swe = {
        "environment": "swe_main",
        "instance_id": "t2",
        "history": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": HELLO}],
        "trajectory": [
            {
                "action": "open R1\n",
                "observation": "shipped",
                "response": "I open it.",
                "execution_time": 0.25,
            },
            {"action": "submit", "observation": "", "response": "Done.", "execution_time": 0.1},
        ],
        "info": {
            "exit_status": "submitted",
            "model_stats": {"instance_cost": 0.07, "tokens_sent": 900, "tokens_received": 90},
        },
    }
    return [mini, swe]


def agentdojo() -> list[dict[str, Any]]:
    """A task that is solved, and one under attack that breaks."""
    call = {"function": "get_order", "args": ARGS, "id": "c1", "placeholder_args": None}
    first = {
        "suite_name": "shop",
        "pipeline_name": "model-a",
        "user_task_id": "user_task_0",
        "injection_task_id": None,
        "attack_type": None,
        "injections": {},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": HELLO},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {
                "role": "tool",
                "content": "",
                "tool_call_id": "c1",
                "tool_call": call,
                "error": "ValueError: no such order",
            },
            {"role": "assistant", "content": [{"type": "text", "content": "No."}]},
        ],
        "error": None,
        "utility": True,
        "security": True,
        "duration": 2.5,
        "evaluation_timestamp": "2026-01-01 10:00:00",
    }
    second = first | {
        "injection_task_id": "injection_task_1",
        "attack_type": "direct",
        "utility": False,
        "security": False,
        "error": "maximum context length is 8192",
    }
    return [first, second]


def inspect() -> dict[str, Any]:
    """A log of two samples: one with events, one with its messages alone."""
    request = {"id": "c1", "function": "get_order", "arguments": ARGS, "type": "function"}
    asks = {"role": "assistant", "content": "", "tool_calls": [request]}
    said = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": HELLO}]
    failed = {"type": "timeout", "message": "too slow"}
    answered = {"role": "tool", "content": "", "tool_call_id": "c1", "error": failed}
    usage = {"input_tokens": 60, "output_tokens": 9, "total_tokens": 109}
    usage["input_tokens_cache_read"] = 40

    def model(at: int, message: dict[str, Any], prompt: list[Any], span: str = "s") -> Any:
        choice = {"message": message, "stop_reason": "stop"}
        return {
            "event": "model",
            "span_id": span,
            "timestamp": f"2026-01-01T10:00:{at:02d}+00:00",
            "model": "openai/model-a",
            "input": prompt,
            "output": {"model": "model-a-1", "choices": [choice], "usage": usage, "time": 0.5},
        }

    last = {"role": "assistant", "content": "attachment://" + "a" * 32}
    tool = {
        "event": "tool",
        "timestamp": "2026-01-01T10:00:02+00:00",
        "id": "c1",
        "function": "get_order",
        "arguments": ARGS,
        "result": "",
        "error": failed,
        "working_time": 1.5,
    }
    full = {
        "id": "t1",
        "epoch": 1,
        "input": HELLO,
        "target": "shipped",
        "messages": [*said, asks, answered, last],
        "output": {"model": "model-a-1", "choices": [{"message": last, "stop_reason": "stop"}]},
        "scores": {"match": {"value": "C", "answer": "shipped"}},
        "events": [
            model(1, asks, said),
            tool,
            model(3, last, [*said, asks, answered]),
            {"event": "span_begin", "id": "j", "type": "scorers", "name": "scorers"},
            model(4, {"role": "assistant", "content": "C"}, [], "j"),
        ],
        "total_time": 4.5,
        "uuid": "u1",
        "attachments": {"a" * 32: "It is shipped."},
    }
    bare = {
        "id": "t2",
        "epoch": 2,
        "input": HELLO,
        "target": "",
        "messages": [*said, asks, answered],
        "scores": {"match": {"value": 0}},
        "limit": {"type": "message", "limit": 5},
    }
    return {
        "version": 2,
        "status": "success",
        "eval": {"eval_id": "e1", "run_id": "r1", "task": "shop", "model": "openai/model-a"},
        "plan": {"name": "plan", "steps": []},
        "samples": [full, bare],
    }


def langfuse() -> list[dict[str, Any]]:
    """Two traces; the tool of the second is marked as a span only, and failed."""
    asks = [{"id": "c1", "name": "get_order", "arguments": ARGS, "type": "tool_call"}]

    def trace(ident: str, kind: str, level: str) -> dict[str, Any]:
        def observation(number: int, **more: Any) -> dict[str, Any]:
            return {
                "id": f"{ident}{number:015x}",
                "traceId": ident * 32,
                "startTime": f"2026-01-01T10:00:0{number}.000Z",
                "endTime": f"2026-01-01T10:00:0{number}.500Z",
                "parentObservationId": None if number == 0 else f"{ident}{0:015x}",
                "level": "DEFAULT",
                "statusMessage": None,
                "metadata": "{}",
                **more,
            }

        spent = {"input": 60, "input_cache_read": 40, "output": 9, "total": 109}
        generation = {
            "type": "GENERATION",
            "name": "chat",
            "model": "model-a",
            "input": [{"role": "user", "content": HELLO}],
            "output": {"role": "assistant", "content": None, "tool_calls": asks},
            "usageDetails": spent,
            "costDetails": {"total": 0.01},
            "timeToFirstToken": 0.2,
        }
        return {
            "trace": {
                "id": ident * 32,
                "name": "desk",
                "sessionId": "sess-1",
                "scores": [{"name": "good", "value": 1, "dataType": "BOOLEAN", "comment": "yes"}],
            },
            "observations": [
                observation(0, type="AGENT", name="desk"),
                observation(1, **generation),
                observation(
                    2,
                    type=kind,
                    name="get_order",
                    input=ARGS,
                    output="shipped",
                    level=level,
                    statusMessage="no R1" if level == "ERROR" else None,
                ),
            ],
        }

    return [trace("a", "TOOL", "DEFAULT"), trace("b", "SPAN", "ERROR")]


def phoenix() -> dict[str, Any]:
    """A page of spans of two traces."""
    message = {"role": "assistant", "tool_calls": [{"tool_call": {"id": "c1"}}]}

    def span(trace: str, number: int, kind: str, **attributes: Any) -> dict[str, Any]:
        return {
            "name": kind.lower(),
            "context": {"trace_id": trace * 32, "span_id": f"{trace}{number:015x}"},
            "span_kind": kind,
            "parent_id": None if number == 0 else f"{trace}{0:015x}",
            "start_time": f"2026-01-01T10:00:0{number}+00:00",
            "end_time": f"2026-01-01T10:00:0{number}.500000+00:00",
            "status_code": "ERROR" if attributes.pop("fails", False) else "OK",
            "status_message": "",
            "attributes": attributes,
            "events": [],
        }

    def trace(ident: str, *, fails: bool) -> list[dict[str, Any]]:
        model = {
            "llm": {
                "model_name": "model-a",
                "token_count": {
                    "prompt": 100,
                    "completion": 9,
                    "prompt_details": {"cache_read": 40},
                },
                "input_messages": [{"message": {"role": "user", "content": HELLO}}],
                "output_messages": [{"message": message}],
                "cost": {"total": 0.01},
            }
        }
        tool = {"tool.name": "get_order", "input.value": '{"order_id": "R1"}'}
        return [
            span(ident, 0, "AGENT", **{"session.id": "sess-1"}),
            span(ident, 1, "LLM", **model),
            span(ident, 2, "TOOL", **tool, **{"output.value": "shipped"}, fails=fails),
        ]

    return {"data": [*trace("a", fails=False), *trace("b", fails=True)], "next_cursor": None}


def mlflow() -> list[dict[str, Any]]:
    """Two traces."""
    import json

    def trace(ident: str, code: str) -> dict[str, Any]:
        def span(number: int, name: str, kind: str, **attributes: Any) -> dict[str, Any]:
            return {
                "trace_id": ident * 32,
                "span_id": f"{ident}{number:015x}",
                "parent_span_id": None if number == 0 else f"{ident}{0:015x}",
                "name": name,
                "start_time_unix_nano": 1_767_261_600_000_000_000 + number * 10**9,
                "end_time_unix_nano": 1_767_261_600_500_000_000 + number * 10**9,
                "status": {
                    "code": code if kind == "TOOL" else "STATUS_CODE_OK",
                    "message": "no R1",
                },
                "attributes": {
                    "mlflow.spanType": json.dumps(kind),
                    **{f"mlflow.{name}": json.dumps(value) for name, value in attributes.items()},
                },
                "events": [],
            }

        usage = {"chat.tokenUsage": {"input_tokens": 100, "output_tokens": 9, "total_tokens": 109}}
        asked = {"model": "model-a", "messages": [{"role": "user", "content": HELLO}]}
        told = {"choices": [{"message": {"role": "assistant", "content": "I look."}}]}
        judged = {"assessment_name": "good", "feedback": {"value": True}, "rationale": "yes"}
        return {
            "info": {"trace_id": f"tr-{ident * 32}", "state": "OK", "assessments": [judged]},
            "data": {
                "spans": [
                    span(0, "desk", "AGENT"),
                    span(1, "chat", "CHAT_MODEL", spanInputs=asked, spanOutputs=told, **usage),
                    span(2, "get_order", "TOOL", spanInputs=ARGS, spanOutputs="shipped"),
                ]
            },
        }

    return [trace("a", "STATUS_CODE_OK"), trace("b", "STATUS_CODE_ERROR")]


MADE = {
    "atif": atif,
    "swe-agent": swe_agent,
    "agentdojo": agentdojo,
    "inspect": inspect,
    "langfuse": langfuse,
    "phoenix": phoenix,
    "mlflow": mlflow,
}
