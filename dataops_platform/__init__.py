"""A data platform for Google Cloud on Dagster: a table is a contract file, everything else follows from it."""
