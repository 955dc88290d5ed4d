-- Calls of one model by some agents in the order of their time.
SELECT run, s, outcome, latency_ms
FROM window_models
WHERE model = $model AND list_contains($agents::VARCHAR[], agent)
    AND s >= $since AND s < $until AND NOT list_contains($left_out::BIGINT[], run)
ORDER BY s, run, seq
