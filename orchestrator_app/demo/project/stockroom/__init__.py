"""A stock of items, and reports on it."""
