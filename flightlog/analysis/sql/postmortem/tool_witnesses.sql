-- Calls of one tool by some agents in the order of their time.
SELECT run, s, outcome, latency_ms
FROM window_tools
WHERE tool = $tool AND has_run AND list_contains($agents::VARCHAR[], agent)
    AND s >= $since AND s < $until AND NOT list_contains($left_out::BIGINT[], run)
ORDER BY s, run, seq
