-- Stop reasons by piece of time of the start of the run.
SELECT
    floor(epoch(started_at) / $width::DOUBLE) * $width::DOUBLE AS begin,
    coalesce(stop_reason, 'none') AS name,
    count(*) AS runs
FROM chosen_runs(
    NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
    $until::TIMESTAMP, NULL
)
WHERE started_at IS NOT NULL
GROUP BY ALL
ORDER BY ALL
