-- Which tools does the agent call, how often, in how many runs?
--
-- Parameters:
--   source: only runs imported from this source; null for all
--   suite: only runs of this suite; null for all
--   model: only runs of this model; null for all
--   variant: only runs of this variant; null for all
--   by: comma-separated list of source, suite, model, variant to group by; null for one group
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
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
        calls.tool_name,
        count(*) AS calls,
        count(DISTINCT (store, run_id)) AS runs
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $by::VARCHAR
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
    tool_name,
    calls,
    runs,
    calls / sum(calls) OVER (PARTITION BY by_source, by_suite, by_model, by_variant) AS share
FROM counted
ORDER BY 1, 2, 3, 4, calls DESC, tool_name
