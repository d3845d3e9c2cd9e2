"""Does the suite notice when the money would go wrong? README.md says how to add a mutant."""
