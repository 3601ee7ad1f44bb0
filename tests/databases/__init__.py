"""Tests of the databases room, on real PostgreSQL."""
