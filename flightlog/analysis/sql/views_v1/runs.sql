-- One row per run. Counts and sums are over the agent's own calls; a failed attempt
-- and a refusal are calls too. Null is unknown.
--
-- Columns:
--   store: store that the run was read from
--   model: model that the agent declared, else the first that it asked for
--   started_at [UTC timestamp]: wall clock time of the start, for display
--   ended_at [UTC timestamp]: wall clock time of the end; null while the run goes on
--   status: completed, stopped, failed; running while there is no end
--   steps [steps]: steps taken, as the ledger counted them, else the highest step seen
--   model_calls [calls]: model calls of the agent, attempts and refusals included
--   tool_calls [calls]: tool calls of the agent, attempts and refusals included
--   tool_failures [calls]: tool calls that ran and ended failed, timed_out or invalid_output
--   refused_calls [calls]: tool calls that the gateway answered itself (denied, budget, ...)
--   retries [attempts]: model and tool calls that were a second or later attempt
--   input_tokens [tokens]: sum over model calls; null when there is none or an answered one
--     lacks it
--   output_tokens [tokens]: sum over model calls; null when there is none or an answered one
--     lacks it
--   tokens [tokens]: input_tokens + output_tokens
--   tokens_per_request [tokens]: mean tokens of an answered model call; null as tokens is
--   cost_usd [USD]: the source's total where it states one, else model calls (null when an
--     answered one is unpriced) plus the priced tool calls
--   success: `passed` of the last evaluation named success; null when unknown or inconclusive
--   score: score of that evaluation
--   replay_misses [calls]: tool calls that no recording matched
--   user_turns [turns]: turns of the simulated user
WITH started AS (
    -- Of a run that was started twice the first counts.
    SELECT DISTINCT ON (store, run_id)
        store, run_id, parent_run_id, origin, agent, agent_version, model, suite, task_id,
        task_digest, trial, variant, session_id, conversation_id, tenant, labels, config_digest,
        capture, redaction_policy, system_digest, toolset_digest, golden, source, source_run_id,
        "at"
    FROM base.events
    WHERE kind = 'run_started' AND run_id <> ''
    ORDER BY store, run_id, seq
),
stopped AS (
    SELECT DISTINCT ON (store, run_id)
        store, run_id, "at", duration_ms, status, stop_reason, stop_tool, stop_detail,
        source_stop_reason, answer, used_steps, total_cost_usd
    FROM base.events
    WHERE kind = 'run_stopped' AND run_id <> ''
    ORDER BY store, run_id, seq DESC
),
judged AS (
    -- A judge of a later process numbers its events from 0 again, so time goes first.
    SELECT DISTINCT ON (store, run_id) store, run_id, passed, score
    FROM base.events
    WHERE kind = 'evaluation' AND name = 'success' AND run_id <> ''
    ORDER BY store, run_id, coalesce("at", TIMESTAMP 'epoch') DESC, seq DESC
),
facts AS (
    SELECT
        store,
        run_id,
        arg_min(request_model, seq)
            FILTER (kind = 'model_call' AND actor = 'agent') AS first_model,
        max(step) FILTER (kind IN ('model_call', 'tool_call') AND actor = 'agent') AS last_step,
        count(*) FILTER (kind = 'model_call' AND actor = 'agent') AS model_calls,
        count(*) FILTER (kind = 'model_call' AND actor = 'user') AS user_turns,
        count(*) FILTER (kind = 'tool_call' AND actor = 'agent') AS tool_calls,
        count(*) FILTER (
            kind = 'tool_call' AND actor = 'agent'
            AND outcome IN ('failed', 'timed_out', 'invalid_output')
        ) AS tool_failures,
        count(*) FILTER (
            kind = 'tool_call' AND actor = 'agent'
            AND outcome NOT IN ('ok', 'failed', 'timed_out', 'invalid_output')
        ) AS refused_calls,
        count(*) FILTER (
            kind = 'tool_call' AND actor = 'agent' AND outcome = 'replay_miss'
        ) AS replay_misses,
        count(*) FILTER (
            kind IN ('model_call', 'tool_call') AND actor = 'agent' AND attempt > 1
        ) AS retries,
        sum(input_tokens) FILTER (kind = 'model_call' AND actor = 'agent') AS input_tokens,
        sum(output_tokens) FILTER (kind = 'model_call' AND actor = 'agent') AS output_tokens,
        fsum(cost_usd) FILTER (kind = 'model_call' AND actor = 'agent') AS model_cost,
        fsum(cost_usd) FILTER (kind = 'tool_call' AND actor = 'agent') AS tool_cost,
        count(*) FILTER (
            kind = 'model_call' AND actor = 'agent' AND outcome = 'ok'
        ) AS answered,
        count(*) FILTER (
            kind = 'model_call' AND actor = 'agent' AND outcome = 'ok' AND input_tokens IS NULL
        ) AS answered_without_input,
        count(*) FILTER (
            kind = 'model_call' AND actor = 'agent' AND outcome = 'ok' AND output_tokens IS NULL
        ) AS answered_without_output,
        count(*) FILTER (
            kind = 'model_call' AND actor = 'agent' AND outcome = 'ok' AND cost_usd IS NULL
        ) AS answered_without_cost,
        sum(input_tokens + output_tokens) FILTER (
            kind = 'model_call' AND actor = 'agent' AND outcome = 'ok'
        ) AS answered_tokens
    FROM base.events
    WHERE run_id <> ''
    GROUP BY store, run_id
),
totals AS (
    SELECT
        *,
        CASE WHEN answered_without_input = 0 THEN input_tokens::BIGINT END AS known_input,
        CASE WHEN answered_without_output = 0 THEN output_tokens::BIGINT END AS known_output,
        -- Rounded because a floating sum depends on the order of the threads in its last digits.
        CASE WHEN answered_without_cost = 0
            THEN round(model_cost + coalesce(tool_cost, 0), 12) END AS known_cost
    FROM facts
)
SELECT
    store,
    run_id,
    started.parent_run_id,
    started.agent,
    started.agent_version,
    coalesce(started.model, first_model) AS model,
    started.suite,
    started.task_id,
    started.task_digest,
    started.trial,
    started.variant,
    started.session_id,
    started.conversation_id,
    started.tenant,
    started.labels,
    started.origin,
    started.golden,
    started.source,
    started.source_run_id,
    started.config_digest,
    started.capture,
    started.redaction_policy,
    started.system_digest,
    started.toolset_digest,
    started."at" AS started_at,
    stopped."at" AS ended_at,
    stopped.duration_ms,
    coalesce(stopped.status, 'running') AS status,
    stopped.stop_reason,
    stopped.stop_tool,
    stopped.stop_detail,
    stopped.source_stop_reason,
    stopped.answer,
    coalesce(stopped.used_steps, last_step) AS steps,
    model_calls,
    tool_calls,
    tool_failures,
    refused_calls,
    retries,
    known_input AS input_tokens,
    known_output AS output_tokens,
    known_input + known_output AS tokens,
    CASE WHEN known_input + known_output IS NOT NULL
        THEN answered_tokens / nullif(answered, 0) END AS tokens_per_request,
    coalesce(stopped.total_cost_usd, known_cost) AS cost_usd,
    judged.passed AS success,
    judged.score,
    replay_misses,
    user_turns
FROM totals
LEFT JOIN started USING (store, run_id)
LEFT JOIN stopped USING (store, run_id)
LEFT JOIN judged USING (store, run_id)
