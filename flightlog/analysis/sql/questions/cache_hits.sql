-- How much of the prompts comes from the cache? One row per model that was asked for.
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
--   request_model: model that was asked for
--   calls [calls]: answered calls whose cached tokens are known
--   unknown [calls]: answered calls whose cached tokens are not known
--   input_tokens [tokens]: prompt tokens of the known calls, cached ones included
--   cached_tokens [tokens]: of these, read from the cache
--   cached_share: cached_tokens / input_tokens
--   written_tokens [tokens]: put in the cache; sum of the known
--   without_hit [calls]: known calls after the first of their run that read nothing from it
WITH answered AS (
    SELECT *, row_number() OVER (PARTITION BY store, run_id ORDER BY seq) AS place
    FROM base.model_calls
    WHERE actor = 'agent' AND outcome = 'ok'
),
known AS (
    SELECT *, cache_read_tokens IS NOT NULL AND input_tokens IS NOT NULL AS is_known FROM answered
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    known.request_model,
    count(*) FILTER (is_known) AS calls,
    count(*) FILTER (NOT is_known) AS unknown,
    sum(known.input_tokens) FILTER (is_known)::BIGINT AS input_tokens,
    sum(known.cache_read_tokens) FILTER (is_known)::BIGINT AS cached_tokens,
    sum(known.cache_read_tokens) FILTER (is_known)
        / nullif(sum(known.input_tokens) FILTER (is_known), 0) AS cached_share,
    sum(known.cache_write_tokens)::BIGINT AS written_tokens,
    count(*) FILTER (is_known AND place > 1 AND known.cache_read_tokens = 0) AS without_hit
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
JOIN known USING (store, run_id)
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, known.request_model
ORDER BY 1, 2, 3, 4, 5, 6, request_model
