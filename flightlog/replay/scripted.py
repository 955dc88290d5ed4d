"""A recorded run's own decisions as a model and a user: the candidate that is another trial."""

from __future__ import annotations

from flightlog.errors import AgentError
from flightlog.replay.cassette import Recording
from flightlog.runtime.model import ModelResponse, ScriptedModel, ScriptedUser, Usage, UserTurn
from flightlog.trace.events import ModelCall
from flightlog.trace.vocab import Actor, Outcome, StopReason


class RecordedModelError(AgentError):
    """A model call that failed in the recording.

    Attributes:
        code: the provider's word for a full context, where the recording stopped on that.
    """

    code: str | None = None


def scripted_model(recording: Recording, *, name: str | None = None) -> ScriptedModel:
    """A model that answers as the agent's model did in the recording, call after call.

    A recording that does not end with an answer (a tool that ends the conversation, a
    budget) gets one empty answer more, which ends the candidate's run too.

    Args:
        recording: with the bodies of its answers.
        name: name of the model; None takes the recorded one.

    Raises:
        AgentError: the recording lacks the text of an answer.
    """
    calls = _model_calls(recording, Actor.AGENT)
    recorded = next((c.response_model or c.request_model for c in calls if c.request_model), None)
    started = recording.started
    declared = started.model if started else None
    provider = next((call.provider for call in calls if call.provider), None)
    answers = [_answer(recording, call) for call in calls]
    last = answers[-1] if answers else None
    if last is None or (isinstance(last, ModelResponse) and last.tool_requests):
        is_counted = isinstance(last, ModelResponse) and last.usage.tokens is not None
        usage = Usage(input_tokens=0, output_tokens=0) if is_counted else Usage()
        answers.append(ModelResponse(text="", usage=usage, latency_ms=0.0))
    return ScriptedModel(name or recorded or declared or "recorded", answers, provider=provider)


def scripted_user(recording: Recording) -> ScriptedUser | None:
    """A user that says what the simulated user said in the recording; None where none spoke.

    What the user said last, when no answer of the agent followed, ended the conversation
    and is left out.
    """
    calls = [event for event in recording.events if isinstance(event, ModelCall)]
    while calls and calls[-1].actor is Actor.USER:
        calls.pop()
    turns: list[UserTurn] = []
    for call in calls:
        message = recording.messages.get(call.output_digest or "")
        if call.actor is Actor.USER and message is not None and not message.tool_requests:
            turns.append(UserTurn(message.text or "", _usage(call), call.cost_usd, call.latency_ms))
    return ScriptedUser(turns) if turns else None


def _model_calls(recording: Recording, actor: Actor) -> list[ModelCall]:
    return [e for e in recording.events if isinstance(e, ModelCall) and e.actor is actor]


def _answer(recording: Recording, call: ModelCall) -> ModelResponse | Exception:
    if call.outcome is not Outcome.OK:
        return _failure(recording, call)
    message = recording.messages.get(call.output_digest or "")
    if message is None:
        raise AgentError(
            f"the answer of step {call.step} is not in the recording",
            where=f"run {recording.run_id}",
            hint="Only runs that were recorded with their messages can be a scripted candidate.",
        )
    return ModelResponse(
        text=message.text,
        tool_requests=message.tool_requests,
        usage=_usage(call),
        model=call.response_model,
        response_id=call.response_id,
        finish_reason=None if call.finish_reason is None else call.finish_reason.value,
        latency_ms=call.latency_ms or 0.0,
        time_to_first_token_ms=call.time_to_first_token_ms,
        cost_usd=call.cost_usd,
    )


def _failure(recording: Recording, call: ModelCall) -> RecordedModelError:
    text = call.error or f"the recorded model call ended as {call.outcome}"
    # The loop writes the class before the text; a replay of a replay says it only once.
    error = RecordedModelError(text.removeprefix(f"{RecordedModelError.__name__}: "))
    stopped = recording.stopped
    if stopped is not None and stopped.stop_reason is StopReason.CONTEXT_OVERFLOW:
        error.code = "context_overflow"
    return error


def _usage(call: ModelCall) -> Usage:
    return Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_tokens=call.cache_write_tokens,
        reasoning_tokens=call.reasoning_tokens,
    )
