-- The runs that a question is about, with the columns by which it groups them.
--
-- Each by_ column holds the run's value where `by_` (a comma-separated list) names it, else
-- null, so that one GROUP BY over all four serves every grouping. A null filter takes all.
CREATE TEMP MACRO chosen_runs(source_, suite_, model_, variant_, by_) AS TABLE
SELECT
    CASE WHEN list_contains(string_split(by_, ','), 'source') THEN source END AS by_source,
    CASE WHEN list_contains(string_split(by_, ','), 'suite') THEN suite END AS by_suite,
    CASE WHEN list_contains(string_split(by_, ','), 'model') THEN model END AS by_model,
    CASE WHEN list_contains(string_split(by_, ','), 'variant') THEN variant END AS by_variant,
    runs.*
FROM runs
WHERE (source_ IS NULL OR source = source_)
    AND (suite_ IS NULL OR suite = suite_)
    AND (model_ IS NULL OR model = model_)
    AND (variant_ IS NULL OR variant = variant_)
