-- The agent's tool calls of all runs that ran, whatever came of them.
--
-- Columns:
--   latency_ms [ms]: duration of the call; null when unknown
SELECT
    store,
    run_id,
    latency_ms::DOUBLE AS latency_ms
FROM base.tool_calls
WHERE actor = 'agent' AND outcome IN ('ok', 'failed', 'timed_out', 'invalid_output')
