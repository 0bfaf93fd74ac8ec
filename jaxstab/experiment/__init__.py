"""One experiment from config to run directory, and what is made of its seeds."""
