"""The jobs, written against ports only."""
