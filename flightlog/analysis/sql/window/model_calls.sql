-- Model calls of the agents of these runs, attempts included.
CREATE OR REPLACE TEMP TABLE window_models AS
SELECT
    runs.run,
    runs.agent,
    runs.tenant,
    calls.seq,
    calls.step,
    coalesce(epoch(calls."at"), runs.began + coalesce(calls.elapsed_ms, 0) / 1000) AS s,
    coalesce(calls.request_model, runs.model) AS model,
    calls.outcome,
    coalesce(calls.attempt, 1) AS attempt,
    calls.input_tokens,
    calls.output_tokens,
    calls.cache_read_tokens,
    calls.cost_usd,
    calls.latency_ms,
    calls.is_truncated,
    calls.has_policy
FROM base.model_calls AS calls
JOIN window_runs AS runs USING (store, run_id)
WHERE calls.actor = 'agent'
