-- How do the runs fare over time? One row per period in which runs began.
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
--   runs [runs]: runs that began in it
--   ok [runs]: ended with ok
--   stopped [runs]: ended by a limit or a guard
--   failed [runs]: ended because something broke
--   open [runs]: without an end, or whose source does not say why they ended
--   success_rate: successes / judged runs; null when none is judged
--   with_retries_share: runs in which a call was tried again / runs
--   p50_tool_calls [calls]: median per run
--   p95_duration_ms [ms]: 95th percentile of the duration, linear interpolation
--   cost_usd [USD]: sum of the known
--   unpriced [runs]: runs whose cost is unknown
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    date_trunc(coalesce($every::VARCHAR, 'hour'), started_at) AS period,
    count(*) AS runs,
    count(*) FILTER (stop_reason = 'ok') AS ok,
    count(*) FILTER (stop_reason <> 'ok' AND status = 'stopped') AS stopped,
    count(*) FILTER (stop_reason <> 'ok' AND status = 'failed') AS failed,
    count(*) FILTER (stop_reason IS NULL) AS open,
    avg(success::INTEGER) AS success_rate,
    count(*) FILTER (retries > 0) / count(*) AS with_retries_share,
    quantile_cont(tool_calls, 0.5) AS p50_tool_calls,
    quantile_cont(duration_ms, 0.95) AS p95_duration_ms,
    round(fsum(cost_usd), 12) AS cost_usd,
    count(*) FILTER (cost_usd IS NULL) AS unpriced
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period
ORDER BY 1, 2, 3, 4, 5, 6, period
