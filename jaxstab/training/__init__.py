"""Training many seeds at once: one seed as pure functions, compiled programs, waves, plans, checkpoints."""
