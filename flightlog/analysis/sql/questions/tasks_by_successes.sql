-- How many tasks succeeded in how many of their trials?
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
--   successes [trials]: successful trials of a task
--   tasks [tasks]: tasks with exactly that many
--   trials [trials]: judged trials of these tasks together
WITH tasks AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        suite,
        task_id,
        count(*) AS trials,
        count(*) FILTER (success) AS successes
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
    WHERE task_id IS NOT NULL AND success IS NOT NULL
    GROUP BY ALL
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    successes,
    count(*) AS tasks,
    sum(trials)::BIGINT AS trials
FROM tasks
GROUP BY ALL
ORDER BY ALL
