-- When the first of the runs began, and the last of them began or ended.
SELECT epoch(min(started_at)) AS first, epoch(max(greatest(started_at, coalesce(ended_at, started_at)))) AS last, count(*) AS runs
FROM chosen_runs(
    NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
    $until::TIMESTAMP, NULL
)
WHERE started_at IS NOT NULL
