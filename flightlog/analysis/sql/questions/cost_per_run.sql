-- What does a run cost?
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
--   n [runs]: runs with a known value
--   unknown [runs]: runs whose value is unknown; not counted as zero
--   mean [USD]: mean over the n runs
--   p50 [USD]: median, linear interpolation
--   p95 [USD]: 95th percentile, linear interpolation
--   max [USD]: largest
--   sum [USD]: total over the n runs
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    count(cost_usd) AS n,
    count(*) - count(cost_usd) AS unknown,
    favg(cost_usd) AS mean,
    quantile_cont(cost_usd, 0.5) AS p50,
    quantile_cont(cost_usd, 0.95) AS p95,
    max(cost_usd) AS max,
    fsum(cost_usd) AS sum
FROM chosen_runs(
    $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
)
GROUP BY ALL
ORDER BY ALL
