"""`skerry`: the command line of the people who deploy models."""
