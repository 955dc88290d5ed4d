-- How much does a run use each tool, as a budget per tool counts it?
--
-- Parameters:
--   source: only runs imported from this source; null for all
--   suite: only runs of this suite; null for all
--   model: only runs of this model; null for all
--   variant: only runs of this variant; null for all
--   agent: only runs of this agent; null for all
--   tenant: only runs for this tenant; null for all
--   since: only runs that began then or later; null for all
--   until: only runs that began before; null for all
--   by: comma-separated list of source, suite, model, variant, agent, tenant to group by; null
--     for one group
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   tool_name: tool, as the model named it
--   runs [runs]: runs that called it, or were refused it
--   p50_calls [attempts]: median attempts per such run, refused ones too
--   p95_calls [attempts]: 95th percentile, linear interpolation
--   max_calls [attempts]: most attempts in a run
--   p50_seconds [s]: median seconds of all attempts of such a run; a run in which an attempt
--     that ran has no latency is left out
--   p95_seconds [s]: 95th percentile, linear interpolation
--   max_seconds [s]: most seconds in a run
--   max_usd [USD]: most spent in a run; null when no attempt that ran has a cost
--   refused [attempts]: attempts that were refused because a budget was used up
WITH by_run AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        calls.tool_name,
        store,
        run_id,
        count(*) AS attempts,
        count(*) FILTER (calls.outcome = 'budget') AS refused,
        count(*) FILTER (
            calls.outcome IN ('ok', 'failed', 'timed_out', 'invalid_output')
        ) AS ran,
        count(calls.latency_ms) AS timed,
        coalesce(sum(calls.latency_ms), 0) / 1000 AS known_seconds,
        sum(calls.cost_usd) AS usd
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
    JOIN base.tool_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent'
    GROUP BY ALL
),

measured AS (
    SELECT *, CASE WHEN timed >= ran THEN known_seconds END AS seconds FROM by_run
)

SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    tool_name,
    count(*) AS runs,
    quantile_cont(attempts, 0.5) AS p50_calls,
    quantile_cont(attempts, 0.95) AS p95_calls,
    max(attempts) AS max_calls,
    quantile_cont(seconds, 0.5) AS p50_seconds,
    quantile_cont(seconds, 0.95) AS p95_seconds,
    max(seconds) AS max_seconds,
    max(usd) AS max_usd,
    sum(refused)::BIGINT AS refused
FROM measured
GROUP BY ALL
ORDER BY 1, 2, 3, 4, 5, 6, max_calls DESC, tool_name
