-- One row per recorded event, of every kind; columns of other kinds are null.
--
-- Columns:
--   store: store that the event was read from
SELECT * FROM base.events
