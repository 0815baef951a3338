"""A module that does not load."""

MISSING = {}["nothing"]
