-- How do the tools fare over time? One row per period and tool; the period of the call.
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
--   every: length of a period: minute, hour, day, week or month; null for hour
--   tool: only calls of this tool; null for all
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   period [UTC timestamp]: begin of the period
--   tool_name: tool, as the model named it
--   calls [calls]: attempts, refusals included
--   runs [runs]: runs with at least one
--   retries [attempts]: second and later attempts
--   failed [calls]: failed or timed out
--   invalid [calls]: answered what the output schema forbids
--   refused [calls]: answered by the gateway; the tool was not called
--   failed_share: (failed + invalid) / (calls - refused); null when every call was refused
--   p50_ms [ms]: median latency of the calls that went well
--   p95_ms [ms]: 95th percentile, linear interpolation
--   p99_ms [ms]: 99th percentile, linear interpolation
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    date_trunc(coalesce($every::VARCHAR, 'hour'), calls."at") AS period,
    calls.tool_name,
    count(*) AS calls,
    count(DISTINCT (chosen.store, chosen.run_id)) AS runs,
    count(*) FILTER (calls.attempt > 1) AS retries,
    count(*) FILTER (calls.outcome IN ('failed', 'timed_out')) AS failed,
    count(*) FILTER (calls.outcome = 'invalid_output') AS invalid,
    count(*) FILTER (
        calls.outcome NOT IN ('ok', 'failed', 'timed_out', 'invalid_output')
    ) AS refused,
    (failed + invalid) / nullif(count(*) - refused, 0) AS failed_share,
    quantile_cont(calls.latency_ms, 0.5) FILTER (calls.outcome = 'ok') AS p50_ms,
    quantile_cont(calls.latency_ms, 0.95) FILTER (calls.outcome = 'ok') AS p95_ms,
    quantile_cont(calls.latency_ms, 0.99) FILTER (calls.outcome = 'ok') AS p99_ms
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
JOIN base.tool_calls AS calls USING (store, run_id)
WHERE calls.actor = 'agent' AND ($tool::VARCHAR IS NULL OR calls.tool_name = $tool::VARCHAR)
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period, calls.tool_name
ORDER BY 1, 2, 3, 4, 5, 6, period, tool_name
