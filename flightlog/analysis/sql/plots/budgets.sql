-- Use of the budgets of runs, as shares of their limits, by piece of time and by group.
SELECT
    floor(epoch(runs.started_at) / $width::DOUBLE) * $width::DOUBLE AS begin,
    budgets.budget AS name,
    count(*) AS runs,
    quantile_cont(budgets.share, 0.5) AS p50,
    quantile_cont(budgets.share, 0.95) AS p95,
    max(budgets.share) AS largest,
    count(*) FILTER (budgets.is_hit) AS hits
FROM budgets
JOIN chosen_runs(
    NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
    $until::TIMESTAMP, NULL
) AS runs USING (store, run_id)
WHERE budgets.scope = 'run' AND budgets.share IS NOT NULL AND runs.started_at IS NOT NULL
GROUP BY ALL
ORDER BY ALL
