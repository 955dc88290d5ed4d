-- How do the models fare over time? One row per period and model that was asked for.
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
--   period [UTC timestamp]: begin of the period of the call
--   request_model: model that was asked for
--   calls [calls]: attempts of the agent
--   failed [calls]: attempts without an answer
--   retries [attempts]: second and later attempts
--   p50_ms [ms]: median latency of the answered calls
--   p95_ms [ms]: 95th percentile, linear interpolation
--   p99_ms [ms]: 99th percentile, linear interpolation
--   input_tokens [tokens]: sum of the known
--   output_tokens [tokens]: sum of the known
--   cached_share: cache_read_tokens / input_tokens, of calls with both known
--   cost_usd [USD]: sum; null when an answered call is unpriced
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    date_trunc(coalesce($every::VARCHAR, 'hour'), calls."at") AS period,
    calls.request_model,
    count(*) AS calls,
    count(*) FILTER (calls.outcome <> 'ok') AS failed,
    count(*) FILTER (calls.attempt > 1) AS retries,
    quantile_cont(calls.latency_ms, 0.5) FILTER (calls.outcome = 'ok') AS p50_ms,
    quantile_cont(calls.latency_ms, 0.95) FILTER (calls.outcome = 'ok') AS p95_ms,
    quantile_cont(calls.latency_ms, 0.99) FILTER (calls.outcome = 'ok') AS p99_ms,
    sum(calls.input_tokens)::BIGINT AS input_tokens,
    sum(calls.output_tokens)::BIGINT AS output_tokens,
    sum(calls.cache_read_tokens) FILTER (calls.input_tokens IS NOT NULL)
        / nullif(
            sum(calls.input_tokens) FILTER (calls.cache_read_tokens IS NOT NULL), 0
        ) AS cached_share,
    CASE WHEN count(*) FILTER (calls.outcome = 'ok' AND calls.cost_usd IS NULL) = 0
        THEN round(fsum(calls.cost_usd), 12) END AS cost_usd
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
JOIN base.model_calls AS calls USING (store, run_id)
WHERE calls.actor = 'agent'
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, period, calls.request_model
ORDER BY 1, 2, 3, 4, 5, 6, period, request_model
