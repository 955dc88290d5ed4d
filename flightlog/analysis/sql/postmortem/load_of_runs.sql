-- The runs that made the most tool calls in a piece of time.
SELECT run_id, count(*) AS calls
FROM window_tools
JOIN window_runs USING (run)
WHERE has_run AND s >= $since AND s < $until
GROUP BY ALL
ORDER BY calls DESC, run_id
LIMIT 2
