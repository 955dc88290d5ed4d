-- One row per model call, of every actor, with the run that it belongs to.
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
FROM base.model_calls AS calls
JOIN runs USING (store, run_id)
