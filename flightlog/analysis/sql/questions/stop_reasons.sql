-- Why do runs end? Our reason, its tool, and the reason in the words of the source.
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
--   status: completed, stopped, failed; running while there is no end
--   stop_reason: our closed set; null when the source does not say
--   stop_tool: tool that the reason is about
--   source_stop_reason: the reason as an imported trace calls it
--   runs [runs]: runs that ended so
--   share: runs / all runs of the group
WITH counted AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        status,
        stop_reason,
        stop_tool,
        source_stop_reason,
        count(*) AS runs
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
    GROUP BY ALL
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    status,
    stop_reason,
    stop_tool,
    source_stop_reason,
    runs,
    runs / sum(runs) OVER (
        PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
    ) AS share
FROM counted
ORDER BY 1, 2, 3, 4, 5, 6, runs DESC, stop_reason, stop_tool, source_stop_reason, status
