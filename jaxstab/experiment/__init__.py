"""One experiment: from its config to its run directory, and models exported from it."""
