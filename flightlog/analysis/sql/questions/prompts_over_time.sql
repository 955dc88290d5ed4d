-- How do the prompts fare over time? One row per period of the model calls.
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
--   period [UTC timestamp]: begin of the period
--   calls [calls]: answered model calls of the agent
--   p50_tokens [tokens]: median size of a prompt
--   p95_tokens [tokens]: 95th percentile, linear interpolation
--   max_tokens [tokens]: the largest
--   p50_output_tokens [tokens]: median size of an answer
--   cached_share: cache_read_tokens / input_tokens, of calls with both known
--   truncated_runs [runs]: runs in which a prompt lost messages
--   policy_lost_runs [runs]: runs in which a prompt went without the policy message
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    date_trunc(coalesce($every::VARCHAR, 'hour'), calls."at") AS period,
    count(*) FILTER (calls.outcome = 'ok') AS calls,
    quantile_cont(calls.input_tokens, 0.5) AS p50_tokens,
    quantile_cont(calls.input_tokens, 0.95) AS p95_tokens,
    max(calls.input_tokens) AS max_tokens,
    quantile_cont(calls.output_tokens, 0.5) AS p50_output_tokens,
    sum(calls.cache_read_tokens) FILTER (calls.input_tokens IS NOT NULL)
        / nullif(
            sum(calls.input_tokens) FILTER (calls.cache_read_tokens IS NOT NULL), 0
        ) AS cached_share,
    count(DISTINCT (chosen.store, chosen.run_id)) FILTER (calls.is_truncated) AS truncated_runs,
    count(DISTINCT (chosen.store, chosen.run_id)) FILTER (NOT calls.has_policy)
        AS policy_lost_runs
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
JOIN base.model_calls AS calls USING (store, run_id)
WHERE calls.actor = 'agent'
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period
ORDER BY 1, 2, 3, 4, 5, 6, period
