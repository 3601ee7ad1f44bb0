"""Databases: PostgreSQL behind one address."""
