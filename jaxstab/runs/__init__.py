"""Runs on disk: the directory of a run, files written whole, and outputs of any framework."""
