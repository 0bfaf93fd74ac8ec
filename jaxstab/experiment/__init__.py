"""One experiment, from its config to its run directory; and the export of its models."""
