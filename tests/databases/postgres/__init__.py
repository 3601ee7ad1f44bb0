"""Tests of the embedded PostgreSQL node."""
