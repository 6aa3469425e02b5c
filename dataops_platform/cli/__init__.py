"""The `dataops` command."""
