"""What connects callbacks with frameworks; each needs its framework."""
