-- How likely is it that at least one of k trials of a task succeeds (pass@k)?
-- Source: Chen et al. 2021: mean over tasks of 1 - C(n - c, k) / C(n, k), unbiased for
-- independent trials; n judged trials of a task, c of them successful. A task is suite and
-- task_id; runs without a task or a judgement are left out.
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
--   k [trials]: trials drawn without replacement
--   pass_at_k: mean over tasks of the chance that one of k trials succeeds
--   tasks [tasks]: tasks with at least k judged trials, the mean is over these
--   short [tasks]: tasks left out because they have fewer than k judged trials
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
),
draws AS (
    SELECT
        tasks.*,
        k,
        CASE WHEN trials < k THEN NULL WHEN trials - successes < k THEN 1 ELSE
            1 - list_product(list_transform(
                range(k), lambda i: (trials - successes - i)::DOUBLE / (trials - i)
            ))
        END AS chance
    FROM tasks
    CROSS JOIN (
        SELECT unnest(range(1, (SELECT coalesce(max(trials), 0) FROM tasks) + 1)) AS k
    )
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    k,
    favg(chance) FILTER (trials >= k) AS pass_at_k,
    count(*) FILTER (trials >= k) AS tasks,
    count(*) FILTER (trials < k) AS short
FROM draws
GROUP BY ALL
HAVING count(*) FILTER (trials >= k) > 0
ORDER BY ALL
