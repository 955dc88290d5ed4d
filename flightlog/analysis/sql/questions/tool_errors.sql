-- Which tools fail or are refused, and how? Tools that never do have no row.
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
--   failed [calls]: ran and raised or returned an error
--   timed_out [calls]: ran longer than its timeout
--   invalid_output [calls]: returned what its output schema forbids
--   errors [calls]: failed + timed_out + invalid_output
--   refused [calls]: answered by the gateway; the tool was not called
--   error_share: errors / (calls - refused); null when every call was refused
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
        count(*) FILTER (outcome = 'failed') AS failed,
        count(*) FILTER (outcome = 'timed_out') AS timed_out,
        count(*) FILTER (outcome = 'invalid_output') AS invalid_output,
        count(*) FILTER (outcome <> 'ok') AS not_ok
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
    failed,
    timed_out,
    invalid_output,
    failed + timed_out + invalid_output AS errors,
    not_ok - errors AS refused,
    errors / nullif(calls - refused, 0) AS error_share
FROM counted
WHERE not_ok > 0
ORDER BY 1, 2, 3, 4, 5, 6, errors DESC, refused DESC, tool_name
