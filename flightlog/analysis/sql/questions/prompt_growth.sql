-- How does the prompt grow from step to step? One row per step of the loop.
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
--   step [steps]: turn of the loop, from 1
--   runs [runs]: runs that got so far
--   p50_tokens [tokens]: median of the largest prompt of the step
--   p95_tokens [tokens]: 95th percentile, linear interpolation
--   max_tokens [tokens]: the largest
--   p50_growth_tokens [tokens]: median of how much larger than in the step before; null for
--     the first
--   truncated_runs [runs]: runs in which a prompt of the step lost messages
--   policy_lost_runs [runs]: runs in which a prompt of the step went without the policy message
WITH sized AS (
    SELECT
        by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
        chosen.store,
        chosen.run_id,
        calls.step,
        max(calls.input_tokens) AS tokens,
        bool_or(calls.is_truncated) AS was_truncated,
        bool_or(NOT calls.has_policy) AS lost_policy
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
    JOIN base.model_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent' AND calls.step IS NOT NULL
    GROUP BY ALL
),
grown AS (
    SELECT *, tokens - lag(tokens) OVER (PARTITION BY store, run_id ORDER BY step) AS growth
    FROM sized
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    step,
    count(*) AS runs,
    quantile_cont(tokens, 0.5) AS p50_tokens,
    quantile_cont(tokens, 0.95) AS p95_tokens,
    max(tokens) AS max_tokens,
    quantile_cont(growth, 0.5) AS p50_growth_tokens,
    count(*) FILTER (was_truncated) AS truncated_runs,
    count(*) FILTER (lost_policy) AS policy_lost_runs
FROM grown
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, step
ORDER BY 1, 2, 3, 4, 5, 6, step
