-- The agent's model calls of all runs, answered or not.
--
-- Columns:
--   latency_ms [ms]: duration of the call; null when unknown
SELECT
    store,
    run_id,
    latency_ms::DOUBLE AS latency_ms
FROM base.model_calls
WHERE actor = 'agent'
