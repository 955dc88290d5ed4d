-- Which shapes do the outputs of a tool have, and since when? A shape is the names and types of a
-- JSON answer; an answer that is no JSON object or list has the shape text.
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
--   tool: only calls of this tool; null for all
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   tool_name: tool, as the model named it
--   shape: names and types of the JSON, else text
--   calls [calls]: successful calls with it
--   share: of the successful calls of the tool whose answer is known
--   first_at [UTC timestamp]: first call with it
--   last_at [UTC timestamp]: last call with it
--   is_new: the tool had answered in another shape before
--   example: run with the first
WITH told AS (
    SELECT
        by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
        chosen.run_id,
        calls.tool_name,
        calls."at",
        CASE WHEN json_valid(calls.result) AND left(ltrim(calls.result), 1) IN ('{', '[')
            THEN json_structure(calls.result)::VARCHAR ELSE 'text' END AS shape
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
    JOIN base.tool_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent' AND calls.outcome = 'ok' AND calls.result IS NOT NULL
        AND ($tool::VARCHAR IS NULL OR calls.tool_name = $tool::VARCHAR)
),
shaped AS (
    SELECT
        by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
        tool_name,
        shape,
        count(*) AS calls,
        min("at") AS first_at,
        max("at") AS last_at,
        arg_min(run_id, ("at", run_id)) AS example
    FROM told
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
    shape,
    calls,
    calls / sum(calls) OVER of_tool AS share,
    first_at,
    last_at,
    first_at > min(first_at) OVER of_tool AS is_new,
    example
FROM shaped
WINDOW of_tool AS (
    PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, tool_name
)
ORDER BY 1, 2, 3, 4, 5, 6, tool_name, first_at, shape
