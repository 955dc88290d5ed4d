-- How many attempts does a call become? One row per tool, and one per model.
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
--   kind: tool_call or model_call
--   name: tool, or model that was asked for
--   asked [calls]: first attempts that were made
--   attempts [attempts]: all attempts that were made
--   amplification: attempts / asked
--   max_attempts [attempts]: most attempts of one call
--   retried_ok_share: second and later attempts that went well / second and later attempts
--   runs [runs]: runs in which a call was tried again
WITH calls AS (
    SELECT store, run_id, 'tool_call' AS kind, tool_name AS name, attempt, outcome
    FROM base.tool_calls
    WHERE actor = 'agent' AND outcome IN ('ok', 'failed', 'timed_out', 'invalid_output')
    UNION ALL
    SELECT store, run_id, 'model_call', request_model, attempt, outcome
    FROM base.model_calls
    WHERE actor = 'agent' AND outcome IN ('ok', 'failed', 'timed_out')
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    calls.kind,
    calls.name,
    count(*) FILTER (coalesce(calls.attempt, 1) = 1) AS asked,
    count(*) AS attempts,
    attempts / nullif(asked, 0) AS amplification,
    max(coalesce(calls.attempt, 1)) AS max_attempts,
    count(*) FILTER (calls.attempt > 1 AND calls.outcome = 'ok')
        / nullif(count(*) FILTER (calls.attempt > 1), 0) AS retried_ok_share,
    count(DISTINCT (chosen.store, chosen.run_id)) FILTER (calls.attempt > 1) AS runs
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
JOIN calls USING (store, run_id)
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, calls.kind, calls.name
ORDER BY 1, 2, 3, 4, 5, 6, amplification DESC, kind DESC, name
