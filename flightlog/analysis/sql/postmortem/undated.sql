-- Runs that do not say when they began; an order in time does not know them.
SELECT count(*) AS runs FROM base.events WHERE kind = 'run_started' AND "at" IS NULL
