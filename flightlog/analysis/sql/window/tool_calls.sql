-- Tool calls of the agents of these runs, attempts and refusals included.
CREATE OR REPLACE TEMP TABLE window_tools AS
SELECT
    runs.run,
    runs.agent,
    runs.tenant,
    calls.seq,
    calls.step,
    coalesce(epoch(calls."at"), runs.began + coalesce(calls.elapsed_ms, 0) / 1000) AS s,
    calls.tool_name AS tool,
    calls.effect IN ('write', 'unknown') AS is_write,
    hash(calls.tool_name, calls.args_digest) AS same,
    hash(calls.result_digest) AS told,
    calls.outcome,
    calls.outcome IN ('ok', 'failed', 'timed_out', 'invalid_output') AS has_run,
    calls.error_type,
    coalesce(calls.attempt, 1) AS attempt,
    calls.latency_ms,
    calls.cost_usd
FROM base.tool_calls AS calls
JOIN window_runs AS runs USING (store, run_id)
WHERE calls.actor = 'agent'
