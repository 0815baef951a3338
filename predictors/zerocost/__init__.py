"""Scores of untrained networks, from at most one batch. PLUG-IN FOLDER: one proxy per file."""
