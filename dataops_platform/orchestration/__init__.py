"""Everything that knows Dagster: assets, checks, IO managers, resources, partitions, jobs, schedules."""
