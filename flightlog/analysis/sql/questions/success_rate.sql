-- How often do runs succeed?
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
--   runs [runs]: runs in the group
--   successes [runs]: runs judged successful
--   failures [runs]: runs judged unsuccessful
--   unknown [runs]: runs without a conclusive judgement
--   rate: successes / (successes + failures); null when nothing is judged
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    count(*) AS runs,
    count(*) FILTER (success) AS successes,
    count(*) FILTER (NOT success) AS failures,
    count(*) FILTER (success IS NULL) AS unknown,
    avg(success::INTEGER) AS rate
FROM chosen_runs(
    $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
)
GROUP BY ALL
ORDER BY ALL
