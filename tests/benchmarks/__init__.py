"""What the speed rests on, measured. `python -m tests.benchmarks` runs all; README.md says how to read them."""
