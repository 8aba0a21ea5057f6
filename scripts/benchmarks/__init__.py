"""What `scripts/bench` runs: one module for each benchmark, beside what they share."""
