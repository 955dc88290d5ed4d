-- The agent's tool calls of some runs, in their order.
--
-- Parameters:
--   keys: runs, each as its store and its id
-- Columns:
--   step [steps]: step of the run; null when the source has none
--   args: arguments of the call
SELECT
    store,
    run_id,
    step,
    tool_name,
    args
FROM base.tool_calls
WHERE actor = 'agent' AND list_contains($keys, {'store': store, 'run_id': run_id})
ORDER BY store, run_id, seq
