-- How many tools and models were called in the window.
SELECT
    (SELECT count(DISTINCT tool) FROM window_tools WHERE has_run) AS tools,
    (SELECT count(DISTINCT model) FROM window_models) AS models
