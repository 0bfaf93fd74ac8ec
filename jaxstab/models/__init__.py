"""Flax encoders and their pre-trained weights."""
