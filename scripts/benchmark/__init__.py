"""Measures this project, and others beside it, on one machine."""
