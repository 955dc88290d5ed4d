-- Why do runs end, over time? One row per period in which runs began, and reason.
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
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   period [UTC timestamp]: begin of the period
--   stop_reason: our closed set; none without an end or where a source does not say
--   runs [runs]: runs that ended so
--   share: runs / all runs of the period
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    date_trunc(coalesce($every::VARCHAR, 'hour'), started_at) AS period,
    coalesce(stop_reason, 'none') AS stop_reason,
    count(*) AS runs,
    count(*) / sum(count(*)) OVER (
        PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period
    ) AS share
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period, 8
ORDER BY 1, 2, 3, 4, 5, 6, period, runs DESC, stop_reason
