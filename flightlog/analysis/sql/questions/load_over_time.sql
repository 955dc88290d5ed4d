-- Who starts the runs and makes the calls, over time? One row per period, agent and tenant.
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
--   period [UTC timestamp]: begin of the period in which the runs began
--   name: agent
--   owner: tenant
--   runs [runs]: runs that began
--   tool_calls [calls]: their attempts, refusals included
--   model_calls [calls]: their attempts
--   cost_usd [USD]: sum of the known
--   runs_share: runs / all runs of the period
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    date_trunc(coalesce($every::VARCHAR, 'hour'), started_at) AS period,
    agent AS name,
    tenant AS owner,
    count(*) AS runs,
    sum(tool_calls)::BIGINT AS tool_calls,
    sum(model_calls)::BIGINT AS model_calls,
    round(fsum(cost_usd), 12) AS cost_usd,
    count(*) / sum(count(*)) OVER (
        PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period
    ) AS runs_share
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
GROUP BY
    by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period,
    chosen.agent, chosen.tenant
ORDER BY 1, 2, 3, 4, 5, 6, period, runs DESC, name, owner
