-- One row per attempt of a tool call or its refusal, of every actor, with its run.
--
-- Columns:
--   store: store that the call was read from
--   model: model of the run, as in the view runs
SELECT
    calls.*,
    runs.suite,
    runs.task_id,
    runs.trial,
    runs.variant,
    runs.model,
    runs.agent,
    runs.source
FROM base.tool_calls AS calls
JOIN runs USING (store, run_id)
