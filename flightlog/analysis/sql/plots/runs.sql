-- Runs by piece of time of their start and by group.
--
-- Parameters:
--   width: length of a piece in seconds
--   by: agent, model, tenant, variant; null for one group
--   agent, tenant, since, until: which runs
WITH chosen AS (
    SELECT
        *,
        CASE $by::VARCHAR
            WHEN 'agent' THEN agent WHEN 'model' THEN model WHEN 'tenant' THEN tenant
            WHEN 'variant' THEN variant END AS name
    FROM chosen_runs(
        NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
        $until::TIMESTAMP, NULL
    )
    WHERE started_at IS NOT NULL
)
SELECT
    floor(epoch(started_at) / $width::DOUBLE) * $width::DOUBLE AS begin,
    coalesce(name, '') AS name,
    count(*) AS runs,
    fsum(cost_usd) AS usd,
    quantile_cont(cost_usd, 0.5) AS p50_usd,
    avg(tool_calls) AS tool_calls,
    avg(tokens_per_request) AS tokens_per_request,
    quantile_cont(duration_ms, 0.95) AS p95_ms,
    avg(success::INTEGER) AS success,
    count(success) AS judged,
    avg((retries > 0)::INTEGER) AS retried
FROM chosen
GROUP BY ALL
ORDER BY ALL
