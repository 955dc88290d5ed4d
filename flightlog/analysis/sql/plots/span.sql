-- When the first and the last of the runs began.
SELECT epoch(min(started_at)) AS first, epoch(max(started_at)) AS last, count(*) AS runs
FROM chosen_runs(
    NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
    $until::TIMESTAMP, NULL
)
WHERE started_at IS NOT NULL
