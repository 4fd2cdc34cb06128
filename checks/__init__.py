"""Great Expectations suites, the gate that runs them, and Dagster asset checks."""
