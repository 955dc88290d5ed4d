-- What does a success cost? All that was spent, over the runs that succeeded.
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
--   runs [runs]: runs whose cost is known and that were judged
--   successes [runs]: of these, successful
--   cost_usd [USD]: cost of these runs
--   cost_per_success [USD]: cost_usd / successes; null without a success
--   cost_of_failures [USD]: of the runs that did not succeed
--   failures_share: cost_of_failures / cost_usd
--   left_out [runs]: runs without a judgement or a known cost
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    count(*) FILTER (success IS NOT NULL AND cost_usd IS NOT NULL) AS runs,
    count(*) FILTER (success AND cost_usd IS NOT NULL) AS successes,
    round(fsum(cost_usd) FILTER (success IS NOT NULL), 12) AS cost_usd,
    round(fsum(cost_usd) FILTER (success IS NOT NULL), 12)
        / nullif(successes, 0) AS cost_per_success,
    round(fsum(cost_usd) FILTER (NOT success), 12) AS cost_of_failures,
    fsum(cost_usd) FILTER (NOT success)
        / nullif(fsum(cost_usd) FILTER (success IS NOT NULL), 0) AS failures_share,
    count(*) FILTER (success IS NULL OR cost_usd IS NULL) AS left_out
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
ORDER BY ALL
