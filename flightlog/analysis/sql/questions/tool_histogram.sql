-- Which tools does the agent call, how often, in how many runs?
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
--   tool_name: tool, as the model named it
--   calls [calls]: calls of the tool, attempts and refusals included
--   runs [runs]: runs with at least one of them
--   share: calls / all tool calls of the group
WITH counted AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        calls.tool_name,
        count(*) AS calls,
        count(DISTINCT (store, run_id)) AS runs
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
    JOIN base.tool_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent'
    GROUP BY ALL
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    tool_name,
    calls,
    runs,
    calls / sum(calls) OVER (
        PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
    ) AS share
FROM counted
ORDER BY 1, 2, 3, 4, 5, 6, calls DESC, tool_name
