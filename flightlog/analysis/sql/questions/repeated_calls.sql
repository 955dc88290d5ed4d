-- Which calls does a run repeat with the same arguments, to be told the same? Attempts of one call
-- count once.
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
--   store: store that the run is in
--   run_id: run
--   tool_name: tool, as the model named it
--   effect: pure, read, write or unknown
--   outcome: how each of them ended
--   times [calls]: how often it was asked
--   first_at [UTC timestamp]: the first time
--   last_at [UTC timestamp]: the last time
--   args: the arguments
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    chosen.store,
    chosen.run_id,
    calls.tool_name,
    any_value(calls.effect) AS effect,
    calls.outcome,
    count(*) AS times,
    min(calls."at") AS first_at,
    max(calls."at") AS last_at,
    min(calls.args) AS args
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
JOIN base.tool_calls AS calls USING (store, run_id)
WHERE calls.actor = 'agent' AND coalesce(calls.attempt, 1) = 1
    AND calls.outcome IN ('ok', 'failed', 'timed_out', 'invalid_output')
    AND calls.args_digest IS NOT NULL
GROUP BY
    by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
    chosen.store, chosen.run_id, calls.tool_name, calls.outcome, calls.args_digest,
    calls.result_digest
HAVING count(*) > 1
QUALIFY row_number() OVER (
    PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
    ORDER BY times DESC, chosen.run_id, first_at, calls.tool_name, min(calls.args)
) <= coalesce($most::BIGINT, 20)
ORDER BY 1, 2, 3, 4, 5, 6, times DESC, chosen.run_id, first_at, tool_name, args
