"""Other projects' own test suites, run through the gateway and against PostgreSQL itself: `python -m tests.compatibility`.

Their tests are fetched when they are needed and never kept in this repository.
"""
