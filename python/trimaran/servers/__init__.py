"""Everything about the servers that run the app: starting them, and deciding how many there are."""
