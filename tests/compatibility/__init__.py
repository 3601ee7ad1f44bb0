"""Other projects' own test suites, and exercises of drivers of other languages (`drivers`), run through the gateway and against
PostgreSQL itself: `python -m tests.compatibility`.

Other projects' tests and the drivers are fetched when they are needed and never kept in this repository.
"""
