"""The events: every recorded fact, as frozen structs.

A column is born here and nowhere else: its name, type, unit and meaning. The
Arrow schema (`flightlog.trace.schema`), the SQL views and the column page of
the docs are derived. A field of the same name in two kinds is the same column.

Null is unknown and never zero. Times named `at` are UTC; `elapsed_ms` and all
latencies come from a monotonic (or, in replay, a virtual) clock.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from flightlog.trace.vocab import (
    Actor,
    Effect,
    FinishReason,
    Origin,
    Outcome,
    RunStatus,
    ServedHow,
    StopReason,
)


def _column(description: str, unit: str | None = None) -> Meta:
    return Meta(description=description, extra={"unit": unit} if unit else None)


Text: TypeAlias = str | None
Count: TypeAlias = int | None
Number: TypeAlias = float | None


class Label(msgspec.Struct, frozen=True):
    """One label of a run."""

    key: str
    value: str


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every event carries.

    Attributes are described by their annotations; `flightlog.trace.schema`
    lists them with type and unit.
    """

    run_id: Annotated[
        str, _column("Run that the event belongs to; empty for a gap and for what commands change.")
    ]
    seq: Annotated[int, _column("Order of the event within its run, from 0.")]
    at: Annotated[int | None, _column("Wall clock time, for display only.", "UTC timestamp")] = None
    elapsed_ms: Annotated[Number, _column("Time since the run started, monotonic clock.", "ms")] = (
        None
    )
    step: Annotated[Count, _column("Turn of the loop that the event belongs to, from 1.")] = None
    redacted: Annotated[
        int, _column("Secrets and personal values replaced by pseudonyms in the event.", "values")
    ] = 0
    withheld: Annotated[
        Text, _column("Why the event's texts were left out: metadata, failed, slow or erased.")
    ] = None


class RunStarted(Event, frozen=True, tag="run_started"):
    """A run began: who runs what, under which budget."""

    parent_run_id: Annotated[Text, _column("Run that started this one as a sub-agent.")] = None
    origin: Annotated[
        Origin, _column("How the run came about: live, replay, fork or imported.")
    ] = Origin.LIVE
    agent: Annotated[Text, _column("Name of the agent.")] = None
    agent_version: Annotated[Text, _column("Version of the agent, as its owner names it.")] = None
    model: Annotated[Text, _column("Model that the agent was configured with.")] = None
    suite: Annotated[Text, _column("Suite of tasks that the task belongs to.")] = None
    task_id: Annotated[Text, _column("Task, unique within its suite.")] = None
    task_digest: Annotated[Text, _column("Digest of the task's content; pairs runs.")] = None
    trial: Annotated[Count, _column("Repeat number of the task, from 0.")] = None
    variant: Annotated[Text, _column("Side of a comparison, such as baseline.")] = None
    session_id: Annotated[Text, _column("Runs made together share it; a block of the gate.")] = None
    conversation_id: Annotated[Text, _column("Conversation over several runs.")] = None
    tenant: Annotated[Text, _column("Tenant on whose behalf the run acts.")] = None
    data_subject: Annotated[
        Text, _column("Person whose data the run holds; `flightlog erase --subject` finds it.")
    ] = None
    labels: Annotated[tuple[Label, ...], _column("Free key-value pairs of the owner.")] = ()
    capture: Annotated[
        Text, _column("What was recorded of the texts: full, redacted or metadata.")
    ] = None
    redaction_policy: Annotated[
        Text,
        _column(
            "Version of the redaction's rules and digest of its settings, such as `1-3f9a51c0`."
        ),
    ] = None
    config_digest: Annotated[Text, _column("Digest of the effective policy.")] = None
    system_digest: Annotated[Text, _column("Digest of the system prompt.")] = None
    toolset_digest: Annotated[Text, _column("Message digest of the tool declarations.")] = None
    golden: Annotated[Text, _column("Golden task that a replay answers from.")] = None
    source: Annotated[Text, _column("Foreign trace that an imported run came from.")] = None
    source_run_id: Annotated[Text, _column("Id of the run in that foreign trace.")] = None
    max_steps: Annotated[Count, _column("Steps allowed by the budget.", "steps")] = None
    max_seconds: Annotated[Number, _column("Seconds allowed by the budget.", "s")] = None
    max_tool_calls: Annotated[Count, _column("Attempts allowed by the budget.", "attempts")] = None
    max_usd: Annotated[Number, _column("Spend allowed by the budget.", "USD")] = None
    max_tokens: Annotated[Count, _column("Tokens allowed by the budget.", "tokens")] = None


class ModelCall(Event, frozen=True, tag="model_call"):
    """One request to a model, answered or not."""

    actor: Annotated[Actor, _column("Who made the call: agent, user simulator or judge.")] = (
        Actor.AGENT
    )
    attempt: Annotated[int, _column("Which try of the call this is, from 1.")] = 1
    outcome: Annotated[Outcome, _column("How the call ended.")] = Outcome.OK
    error: Annotated[Text, _column("What went wrong, or the reason of a refusal.")] = None
    provider: Annotated[Text, _column("Provider of the model.")] = None
    request_model: Annotated[Text, _column("Model that was asked for.")] = None
    response_model: Annotated[Text, _column("Model that answered.")] = None
    response_id: Annotated[Text, _column("Provider's id of the answer.")] = None
    previous_response_id: Annotated[Text, _column("Answer whose server-side thread goes on.")] = (
        None
    )
    input_tokens: Annotated[Count, _column("Prompt tokens, cached ones included.", "tokens")] = None
    output_tokens: Annotated[Count, _column("Answer tokens, reasoning included.", "tokens")] = None
    cache_read_tokens: Annotated[Count, _column("Prompt tokens read from cache.", "tokens")] = None
    cache_write_tokens: Annotated[Count, _column("Prompt tokens put in cache.", "tokens")] = None
    reasoning_tokens: Annotated[Count, _column("Answer tokens spent on reasoning.", "tokens")] = (
        None
    )
    cost_usd: Annotated[Number, _column("Cost of the call; null when unpriced.", "USD")] = None
    price_id: Annotated[Text, _column("Price that the cost was computed with.")] = None
    latency_ms: Annotated[Number, _column("Duration of the call.", "ms")] = None
    time_to_first_token_ms: Annotated[Number, _column("Until the first token came.", "ms")] = None
    finish_reason: Annotated[
        FinishReason | None, _column("Why the answer ended, normalised over providers.")
    ] = None
    prompt_base_seq: Annotated[Count, _column("Model call whose prompt this one extends.")] = None
    prompt_kept: Annotated[int, _column("Leading messages kept from that prompt.", "messages")] = 0
    prompt_added: Annotated[
        tuple[str, ...], _column("Digests of the messages that follow the kept ones.")
    ] = ()
    prompt_messages: Annotated[Count, _column("Messages in the prompt.", "messages")] = None
    output_digest: Annotated[Text, _column("Digest of the answer message.")] = None
    tool_requests: Annotated[Count, _column("Tool calls that the answer asks for.", "calls")] = None
    context_limit: Annotated[Count, _column("Context window of the model.", "tokens")] = None
    is_truncated: Annotated[bool | None, _column("True when the prompt lost messages.")] = None
    has_policy: Annotated[bool | None, _column("True when the system policy was sent.")] = None


class ToolCall(Event, frozen=True, tag="tool_call"):
    """One attempt of a tool call, or its refusal."""

    actor: Annotated[Actor, _column("Who made the call: agent, user simulator or judge.")] = (
        Actor.AGENT
    )
    call_ix: Annotated[Count, _column("Position of the call within its step, from 0.")] = None
    tool_name: Annotated[str, _column("Tool, as the model named it.")] = ""
    tool_call_id: Annotated[Text, _column("Provider's id of the call.")] = None
    effect: Annotated[Effect, _column("pure, read, write; unknown counts as write.")] = (
        Effect.UNKNOWN
    )
    args: Annotated[Text, _column("Canonical JSON of the arguments (raw where flagged).")] = None
    args_digest: Annotated[Text, _column("Digest of the canonical arguments.")] = None
    args_flag: Annotated[
        Text,
        _column(
            "Why the arguments stayed raw, or what they have less than was given; null when clean."
        ),
    ] = None
    result: Annotated[Text, _column("Observation; null when it is in a blob or unknown.")] = None
    result_digest: Annotated[Text, _column("Digest of the observation.")] = None
    result_bytes: Annotated[Count, _column("Size of the observation in UTF-8.", "bytes")] = None
    result_blob: Annotated[Text, _column("Blob that holds an observation above 16 KiB.")] = None
    result_flag: Annotated[
        Text,
        _column(
            "json: the tool gave a value, and this is its JSON; lossy: what the text has less "
            "than the tool gave; null: the tool gave the text."
        ),
    ] = None
    outcome: Annotated[Outcome, _column("How the call ended.")] = Outcome.OK
    error: Annotated[Text, _column("What went wrong, or the reason of a refusal.")] = None
    error_type: Annotated[Text, _column("Class of the error.")] = None
    attempt: Annotated[int, _column("Which try of the call this is, from 1.")] = 1
    idempotency_key: Annotated[Text, _column("Key that makes a repeated write harmless.")] = None
    cost_usd: Annotated[Number, _column("Cost of the call; null when unpriced.", "USD")] = None
    latency_ms: Annotated[Number, _column("Duration of the call.", "ms")] = None
    served_how: Annotated[
        ServedHow | None, _column("Where the observation came from; null for a refusal.")
    ] = None
    served_from: Annotated[Text, _column("Recorded run that a replay answered from.")] = None
    state_key: Annotated[Text, _column("Replay key: tool, arguments and state read.")] = None


class ToolIntent(Event, frozen=True, tag="tool_intent"):
    """A write is about to happen; durable before the tool is called."""

    call_ix: Annotated[Count, _column("Position of the call within its step, from 0.")] = None
    tool_name: Annotated[str, _column("Tool, as the model named it.")] = ""
    tool_call_id: Annotated[Text, _column("Provider's id of the call.")] = None
    effect: Annotated[Effect, _column("pure, read, write; unknown counts as write.")] = (
        Effect.UNKNOWN
    )
    args: Annotated[Text, _column("Canonical JSON of the arguments (raw where flagged).")] = None
    args_digest: Annotated[Text, _column("Digest of the canonical arguments.")] = None
    attempt: Annotated[int, _column("Which try of the call this is, from 1.")] = 1
    idempotency_key: Annotated[Text, _column("Key that makes a repeated write harmless.")] = None


class StateChanged(Event, frozen=True, tag="state_changed"):
    """A guardrail changed state, a guard found something, or a write in doubt was settled."""

    subject: Annotated[
        str, _column("What changed: breaker, kill_switch, approval, degrade, guard or write.")
    ] = ""
    call_ix: Annotated[Count, _column("Position of the call within its step, from 0.")] = None
    tool_name: Annotated[Text, _column("Tool, as the model named it.")] = None
    tool_call_id: Annotated[Text, _column("Provider's id of the call.")] = None
    state_from: Annotated[Text, _column("State before.")] = None
    state_to: Annotated[Text, _column("State after.")] = None
    detail: Annotated[Text, _column("Why, in words.")] = None


class RunStopped(Event, frozen=True, tag="run_stopped"):
    """A run ended: why, and what was spent of what was allowed."""

    status: Annotated[RunStatus, _column("completed, stopped or failed.")] = RunStatus.COMPLETED
    stop_reason: Annotated[
        StopReason | None, _column("Why the run ended; null when a source does not say.")
    ] = None
    stop_tool: Annotated[Text, _column("Tool that the stop reason is about.")] = None
    stop_detail: Annotated[Text, _column("The stop in one sentence, with its numbers.")] = None
    source_stop_reason: Annotated[Text, _column("Stop reason in the words of the source.")] = None
    answer: Annotated[Text, _column("Final answer of the agent.")] = None
    duration_ms: Annotated[Number, _column("Duration of the run.", "ms")] = None
    total_cost_usd: Annotated[
        Number, _column("Cost of the run where its source states only that.", "USD")
    ] = None
    max_steps: Annotated[Count, _column("Steps allowed by the budget.", "steps")] = None
    max_seconds: Annotated[Number, _column("Seconds allowed by the budget.", "s")] = None
    max_tool_calls: Annotated[Count, _column("Attempts allowed by the budget.", "attempts")] = None
    max_usd: Annotated[Number, _column("Spend allowed by the budget.", "USD")] = None
    max_tokens: Annotated[Count, _column("Tokens allowed by the budget.", "tokens")] = None
    used_steps: Annotated[Count, _column("Steps taken.", "steps")] = None
    used_seconds: Annotated[Number, _column("Seconds spent.", "s")] = None
    used_tool_calls: Annotated[Count, _column("Attempts spent, failed ones too.", "attempts")] = (
        None
    )
    used_usd: Annotated[Number, _column("USD spent; null when a call was unpriced.", "USD")] = None
    used_tokens: Annotated[Count, _column("Tokens spent; null when unknown.", "tokens")] = None
    scoped_budgets: Annotated[
        Text,
        _column(
            "Budgets of single tools and of the tenant, allowed and used, as a JSON list of "
            "objects with scope, budget, unit, allowed and used."
        ),
    ] = None


class Evaluation(Event, frozen=True, tag="evaluation"):
    """A judgement on a run, made after it stopped."""

    name: Annotated[str, _column("What was judged; `success` feeds the gate.")] = "success"
    passed: Annotated[bool | None, _column("The judgement; null when inconclusive.")] = None
    score: Annotated[Number, _column("Score, where the judge gives one.")] = None
    detail: Annotated[Text, _column("Why, in words.")] = None


class Gap(Event, frozen=True, tag="gap"):
    """Events that could not be written, counted by the recorder."""

    dropped_events: Annotated[int, _column("Events that were dropped.", "events")] = 0
    detail: Annotated[Text, _column("Why, in words.")] = None


AnyEvent: TypeAlias = (
    RunStarted | ModelCall | ToolCall | ToolIntent | StateChanged | RunStopped | Evaluation | Gap
)
EVENT_TYPES: tuple[type[Event], ...] = (
    RunStarted,
    ModelCall,
    ToolCall,
    ToolIntent,
    StateChanged,
    RunStopped,
    Evaluation,
    Gap,
)

_SUCCESS = str(Evaluation.__struct_defaults__[Evaluation.__struct_fields__.index("name")])
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)


def encode_event(event: Event) -> bytes:
    """One event as a JSON object on one line; fields at their defaults are left out.

    Raises:
        UnicodeEncodeError: a string holds a lone surrogate.
    """
    if type(event) is Evaluation and event.name == _SUCCESS and event.name is not _SUCCESS:
        # A default that is text is left out only where it is the very same object.
        event = msgspec.structs.replace(event, name=_SUCCESS)
    return _encoder.encode(event)


def decode_event(raw: bytes) -> AnyEvent:
    """The event that `encode_event` wrote.

    Raises:
        msgspec.ValidationError: `raw` is not an event of this format.
    """
    event: AnyEvent = _decoder.decode(raw)
    return event
