"""A number about an architecture, without training it: costs, and how far a ranking can be trusted."""
