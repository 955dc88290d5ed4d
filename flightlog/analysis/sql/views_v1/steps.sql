-- One row per run and step: the agent's calls of that step. Calls without a step are left out.
--
-- Columns:
--   store: store that the run was read from
--   seq: first event of the step within its run
--   at [UTC timestamp]: wall clock time of that event, for display
--   elapsed_ms [ms]: time from the start of the run to that event
--   model_calls [calls]: model calls, attempts and refusals included
--   tool_calls [calls]: tool calls, attempts and refusals included
--   tool_failures [calls]: tool calls that ran and ended failed, timed_out or invalid_output
--   refused_calls [calls]: tool calls that the gateway answered itself
--   retries [attempts]: calls that were a second or later attempt
--   input_tokens [tokens]: sum over model calls; null when there is none or an answered one
--     lacks it
--   output_tokens [tokens]: sum over model calls; null when there is none or an answered one
--     lacks it
--   cost_usd [USD]: model calls (null when an answered one is unpriced) plus priced tool calls
--   model_latency_ms [ms]: sum over model calls with a known latency
--   tool_latency_ms [ms]: sum over tool calls with a known latency; calls of one batch overlap
--   finish_reason: why the last model answer of the step ended
--   tools: tools called, in order, one entry per call
WITH facts AS (
    SELECT
        store,
        run_id,
        step,
        min(seq) AS seq,
        arg_min("at", seq) AS "at",
        arg_min(elapsed_ms, seq) AS elapsed_ms,
        count(*) FILTER (kind = 'model_call') AS model_calls,
        count(*) FILTER (kind = 'tool_call') AS tool_calls,
        count(*) FILTER (
            kind = 'tool_call' AND outcome IN ('failed', 'timed_out', 'invalid_output')
        ) AS tool_failures,
        count(*) FILTER (
            kind = 'tool_call' AND outcome NOT IN ('ok', 'failed', 'timed_out', 'invalid_output')
        ) AS refused_calls,
        count(*) FILTER (attempt > 1) AS retries,
        sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens,
        fsum(cost_usd) FILTER (kind = 'model_call') AS model_cost,
        fsum(cost_usd) FILTER (kind = 'tool_call') AS tool_cost,
        fsum(latency_ms) FILTER (kind = 'model_call') AS model_latency_ms,
        fsum(latency_ms) FILTER (kind = 'tool_call') AS tool_latency_ms,
        count(*) FILTER (
            kind = 'model_call' AND outcome = 'ok' AND input_tokens IS NULL
        ) AS answered_without_input,
        count(*) FILTER (
            kind = 'model_call' AND outcome = 'ok' AND output_tokens IS NULL
        ) AS answered_without_output,
        count(*) FILTER (
            kind = 'model_call' AND outcome = 'ok' AND cost_usd IS NULL
        ) AS answered_without_cost,
        arg_max(finish_reason, seq) FILTER (kind = 'model_call') AS finish_reason,
        list(tool_name ORDER BY seq) FILTER (kind = 'tool_call') AS tools
    FROM base.events
    WHERE kind IN ('model_call', 'tool_call') AND actor = 'agent' AND step IS NOT NULL
    GROUP BY store, run_id, step
)
SELECT
    store,
    run_id,
    step,
    seq,
    "at",
    elapsed_ms,
    model_calls,
    tool_calls,
    tool_failures,
    refused_calls,
    retries,
    CASE WHEN answered_without_input = 0 THEN input_tokens::BIGINT END AS input_tokens,
    CASE WHEN answered_without_output = 0 THEN output_tokens::BIGINT END AS output_tokens,
    CASE WHEN answered_without_cost = 0
        THEN round(model_cost + coalesce(tool_cost, 0), 12) END AS cost_usd,
    round(model_latency_ms, 6) AS model_latency_ms,
    round(tool_latency_ms, 6) AS tool_latency_ms,
    finish_reason,
    coalesce(tools, []) AS tools
FROM facts
