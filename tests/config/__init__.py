"""Settings: what is accepted, what is refused, and how that is said."""
