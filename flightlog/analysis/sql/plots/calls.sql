-- Calls of the agents' models and tools by piece of time, with latency and failures.
WITH chosen AS (
    SELECT store, run_id
    FROM chosen_runs(
        NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
        $until::TIMESTAMP, NULL
    )
),
calls AS (
    SELECT store, run_id, 'tool' AS kind, tool_name AS name, "at", outcome, latency_ms
    FROM base.tool_calls
    WHERE actor = 'agent' AND outcome IN ('ok', 'failed', 'timed_out', 'invalid_output')
    UNION ALL
    SELECT store, run_id, 'model', request_model, "at", outcome, latency_ms
    FROM base.model_calls
    WHERE actor = 'agent'
)
SELECT
    floor(epoch(calls."at") / $width::DOUBLE) * $width::DOUBLE AS begin,
    calls.kind,
    coalesce(calls.name, '') AS name,
    count(*) AS calls,
    count(*) FILTER (calls.outcome <> 'ok') AS failed,
    quantile_cont(calls.latency_ms, 0.5) FILTER (calls.outcome = 'ok') AS p50_ms,
    quantile_cont(calls.latency_ms, 0.95) FILTER (calls.outcome = 'ok') AS p95_ms
FROM calls
JOIN chosen USING (store, run_id)
WHERE calls."at" IS NOT NULL
GROUP BY ALL
ORDER BY ALL
