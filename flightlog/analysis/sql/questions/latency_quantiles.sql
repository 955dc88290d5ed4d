-- How long do model calls, tool calls and whole runs take?
-- Calls are the agent's own. sd is the sample standard deviation (n - 1; null below 2 values).
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
--   measure: model_call, tool_call or run
--   n: values known
--   unknown: values unknown; not counted as zero
--   mean [ms]: mean over the n values
--   sd [ms]: sample standard deviation
--   p50 [ms]: median, linear interpolation
--   p95 [ms]: 95th percentile, linear interpolation
--   p99 [ms]: 99th percentile, linear interpolation
--   max [ms]: largest
--   sum [ms]: total over the n values
WITH chosen AS (
    SELECT * FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
),
measured AS (
    SELECT
        by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
        'run' AS measure, duration_ms AS value
    FROM chosen
    UNION ALL
    SELECT
        by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
        calls.kind AS measure, calls.latency_ms AS value
    FROM chosen
    JOIN base.events AS calls USING (store, run_id)
    WHERE calls.kind IN ('model_call', 'tool_call') AND calls.actor = 'agent'
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    measure,
    count(value) AS n,
    count(*) - count(value) AS unknown,
    favg(value) AS mean,
    stddev_samp(value) AS sd,
    quantile_cont(value, 0.5) AS p50,
    quantile_cont(value, 0.95) AS p95,
    quantile_cont(value, 0.99) AS p99,
    max(value) AS max,
    fsum(value) AS sum
FROM measured
GROUP BY ALL
ORDER BY ALL
