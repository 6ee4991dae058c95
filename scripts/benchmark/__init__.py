"""Measures this project and others on the same machine."""
