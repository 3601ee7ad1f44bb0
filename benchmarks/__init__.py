"""Measurements. Each is a module with its method in its docstring: `python -m benchmarks.servers.app_servers`."""
