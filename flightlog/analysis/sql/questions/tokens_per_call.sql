-- How many tokens does one model call of the agent take?
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
--   measure: input_tokens, output_tokens, cache_read_tokens or reasoning_tokens
--   n [calls]: calls with a known value
--   unknown [calls]: calls whose value is unknown; not counted as zero
--   mean [tokens]: mean over the n calls
--   p50 [tokens]: median, linear interpolation
--   p95 [tokens]: 95th percentile, linear interpolation
--   max [tokens]: largest
--   sum [tokens]: total over the n calls
WITH measured AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        unnest(['input_tokens', 'output_tokens', 'cache_read_tokens', 'reasoning_tokens'])
            AS measure,
        unnest([
            calls.input_tokens, calls.output_tokens, cache_read_tokens, reasoning_tokens
        ]) AS value
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
    JOIN base.model_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent'
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
    quantile_cont(value, 0.5) AS p50,
    quantile_cont(value, 0.95) AS p95,
    max(value) AS max,
    sum(value)::BIGINT AS sum
FROM measured
GROUP BY ALL
ORDER BY ALL
