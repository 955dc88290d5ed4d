-- Runs of an agent that were refused a tool for a reason.
SELECT DISTINCT run
FROM window_tools
WHERE agent = $agent AND tool = $tool AND coalesce(error_type, outcome) = $reason AND NOT has_run
ORDER BY run
