-- Tool calls by agent, tenant and tool, in a piece of time and in the rest of the window.
SELECT
    agent,
    tenant,
    tool,
    count(*) FILTER (s >= $since AND s < $until) AS inside,
    count(*) FILTER (s < $since OR s >= $until) AS outside,
    count(*) FILTER (s >= $since AND s < $until AND attempt > 1) AS retries,
    count(*) FILTER (s >= $since AND s < $until AND attempt = 1) AS asked
FROM window_tools
WHERE has_run
GROUP BY ALL
ORDER BY inside DESC, agent, tenant, tool
