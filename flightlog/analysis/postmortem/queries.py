"""For each kind of finding a query over the views that shows it to whoever doubts it."""

from __future__ import annotations

from typing import Any, Final

from flightlog.analysis.postmortem.kinds import Kind

_CALLS_BY_HOUR: Final = """\
select date_trunc('hour', "at") as hour, count(*) as calls,
  count(*) filter (where outcome in ('failed', 'timed_out')) as failed,
  count(*) filter (where outcome = 'invalid_output') as invalid,
  quantile_cont(latency_ms, 0.5) as p50_ms
from tool_calls where tool_name = $tool and actor = 'agent'
group by all order by hour"""
_MODEL_BY_HOUR: Final = """\
select date_trunc('hour', "at") as hour, count(*) as calls,
  count(*) filter (where outcome <> 'ok') as failed, quantile_cont(latency_ms, 0.5) as p50_ms
from model_calls where request_model = $model and actor = 'agent'
group by all order by hour"""
_RUNS_BY_HOUR: Final = """\
select date_trunc('hour', started_at) as hour, count(*) as runs,
  count(*) filter (where retries > 0) as with_retries,
  count(*) filter (where stop_reason <> 'ok') as not_ok,
  count(*) filter (where not success) as judged_failures,
  quantile_cont(tool_calls, 0.5) as p50_tool_calls, quantile_cont(cost_usd, 0.5) as p50_usd,
  quantile_cont(duration_ms, 0.5) as p50_ms
from runs where agent = $agent
group by all order by hour"""
_PROMPTS_BY_HOUR: Final = """\
select date_trunc('hour', "at") as hour, count(*) as model_calls,
  quantile_cont(input_tokens, 0.5) as p50_prompt, max(input_tokens) as largest_prompt,
  quantile_cont(output_tokens, 0.5) as p50_answer,
  sum(cache_read_tokens) / nullif(sum(input_tokens), 0) as cached_share,
  count(distinct run_id) filter (where is_truncated) as truncated_runs,
  count(distinct run_id) filter (where not has_policy) as runs_without_policy
from model_calls where agent = $agent and actor = 'agent'
group by all order by hour"""
_REPEATS: Final = """\
select run_id, tool_name, args, count(*) as calls, min("at") as first_at
from tool_calls
where agent = $agent and actor = 'agent' and attempt = 1 and (effect = 'write') = $is_write
group by run_id, tool_name, args, args_digest, result_digest
having count(*) >= $least order by calls desc, run_id limit 20"""
_REFUSALS: Final = """\
select date_trunc('hour', "at") as hour, tool_name, outcome, error_type,
  count(*) as calls, count(distinct run_id) as runs
from tool_calls
where agent = $agent and outcome not in ('ok', 'failed', 'timed_out', 'invalid_output')
group by all order by hour, calls desc"""
_STOPS: Final = """\
select date_trunc('hour', started_at) as hour, coalesce(stop_reason, 'none') as stop_reason,
  count(*) as runs
from runs where agent = $agent group by all order by hour, runs desc"""
_RERUNS: Final = """\
select tenant, task_id, conversation_id, count(*) as runs,
  list(coalesce(stop_reason, 'none') order by started_at) as ends
from runs where agent = $agent
group by all having count(*) > 1 order by runs desc, conversation_id limit 20"""
_MODELS: Final = """\
select date_trunc('hour', started_at) as hour, model, agent_version, count(*) as runs,
  quantile_cont(cost_usd, 0.5) as p50_usd
from runs where agent = $agent group by all order by hour, runs desc"""
_RUNAWAYS: Final = """\
select run_id, tool_calls, tool_failures, model_calls, cost_usd, stop_reason
from runs where agent = $agent order by tool_calls desc limit 20"""
_TENANT_BY_HOUR: Final = """\
select date_trunc('hour', started_at) as hour, count(*) as runs,
  count(*) filter (where tenant = $subject) as of_subject
from runs group by all order by hour"""
_AGENT_BY_HOUR: Final = """\
select date_trunc('hour', started_at) as hour, count(*) as runs,
  count(*) filter (where agent = $subject) as of_subject
from runs group by all order by hour"""
_DOUBTS: Final = """\
select run_id, seq, tool_name, error, "at" from tool_calls
where agent = $agent and outcome = 'timed_out' and effect in ('write', 'unknown')
order by "at", run_id, seq limit 50"""
_RUN: Final = """\
select step, tool_name, outcome, count(*) as calls, min("at") as first_at
from tool_calls where run_id = $run_id and actor = 'agent'
group by all order by step limit 50"""

_OF_AGENTS: Final = {
    Kind.RETRIES: _RUNS_BY_HOUR,
    Kind.CALLS: _RUNS_BY_HOUR,
    Kind.COST: _RUNS_BY_HOUR,
    Kind.DURATION: _RUNS_BY_HOUR,
    Kind.FAILURES: _RUNS_BY_HOUR,
    Kind.PROMPT_GROWTH: _PROMPTS_BY_HOUR,
    Kind.PROMPT_START: _PROMPTS_BY_HOUR,
    Kind.OUTPUT: _PROMPTS_BY_HOUR,
    Kind.CACHE_LOST: _PROMPTS_BY_HOUR,
    Kind.TRUNCATED: _PROMPTS_BY_HOUR,
    Kind.POLICY_LOST: _PROMPTS_BY_HOUR,
    Kind.REFUSED: _REFUSALS,
    Kind.STOPS: _STOPS,
    Kind.USER_RETRIES: _RERUNS,
    Kind.MODEL_CHANGED: _MODELS,
    Kind.RUNAWAY: _RUNAWAYS,
    Kind.IN_DOUBT: _DOUBTS,
}


def query_of(kind: Kind, subject: str, of: str) -> tuple[str, dict[str, Any]]:
    """A query and the values for it."""
    if of == "run":
        return _RUN, {"run_id": subject}
    if of == "tool":
        return _CALLS_BY_HOUR, {"tool": subject}
    if of == "model":
        return _MODEL_BY_HOUR, {"model": subject}
    if kind is Kind.SURGE:
        return _TENANT_BY_HOUR if of == "tenant" else _AGENT_BY_HOUR, {"subject": subject}
    if kind is Kind.LOOPS:
        return _REPEATS, {"agent": subject, "is_write": False, "least": 3}
    if kind is Kind.DUPLICATE_WRITES:
        return _REPEATS, {"agent": subject, "is_write": True, "least": 2}
    return _OF_AGENTS[kind], {"agent": subject}
