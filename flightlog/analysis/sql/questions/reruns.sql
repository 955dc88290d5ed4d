-- Which runs were started again by the user? Runs of one agent for one tenant, task and
-- conversation of which at least two began.
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
--   most: rows at most; null for 20
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   name: agent
--   owner: tenant
--   task_id: task
--   conversation_id: conversation over the runs
--   runs [runs]: how many
--   ends: stop reasons in the order of their start; none without one
--   first_at [UTC timestamp]: start of the first
--   last_at [UTC timestamp]: start of the last
--   cost_usd [USD]: of all of them; null when one is unknown
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    agent AS name,
    tenant AS owner,
    task_id,
    conversation_id,
    count(*) AS runs,
    list(coalesce(stop_reason, 'none') ORDER BY started_at, run_id) AS ends,
    min(started_at) AS first_at,
    max(started_at) AS last_at,
    CASE WHEN count(cost_usd) = count(*) THEN round(fsum(cost_usd), 12) END AS cost_usd
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
WHERE task_id IS NOT NULL OR conversation_id IS NOT NULL
GROUP BY
    by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
    chosen.agent, chosen.tenant, chosen.suite, chosen.task_id, chosen.conversation_id
HAVING count(*) > 1
QUALIFY row_number() OVER (
    PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
    ORDER BY runs DESC, last_at DESC, conversation_id, task_id, name, owner
) <= coalesce($most::BIGINT, 20)
ORDER BY 1, 2, 3, 4, 5, 6, runs DESC, last_at DESC, conversation_id, task_id, name, owner
