"""A small shop, to show Demolish with."""
