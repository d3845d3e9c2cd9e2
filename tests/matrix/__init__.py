"""The suite on every major version of PostgreSQL that can be had here: `python -m tests.matrix`."""
