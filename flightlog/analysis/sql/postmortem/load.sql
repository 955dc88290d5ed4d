-- Tool calls by agent, tenant, task and tool, in a piece of time and in the rest of the window.
SELECT
    calls.agent,
    calls.tenant,
    runs.task_id AS task,
    tool,
    count(*) FILTER (s >= $since AND s < $until) AS inside,
    count(*) FILTER (s < $since OR s >= $until) AS outside,
    count(*) FILTER (s >= $since AND s < $until AND attempt > 1) AS retries,
    count(*) FILTER (s >= $since AND s < $until AND attempt = 1) AS asked
FROM window_tools AS calls
JOIN window_runs AS runs USING (run)
WHERE has_run
GROUP BY ALL
ORDER BY inside DESC, calls.agent, calls.tenant, task, tool
