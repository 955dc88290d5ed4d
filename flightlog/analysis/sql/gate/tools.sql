-- How often each run called each tool, refused and failed calls included.
--
-- Columns:
--   calls [calls]: of the tool in the run
SELECT
    store,
    run_id,
    tool_name,
    count(*)::DOUBLE AS calls
FROM base.tool_calls
WHERE actor = 'agent'
GROUP BY store, run_id, tool_name
ORDER BY store, run_id, tool_name
