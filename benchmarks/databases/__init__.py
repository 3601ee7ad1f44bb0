"""Benchmarks of the databases."""
