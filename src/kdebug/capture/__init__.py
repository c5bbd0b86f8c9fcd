"""Evidence: recipes, the runner, bundles, redaction, comparison; over targets and clusters alone."""
