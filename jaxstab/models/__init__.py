"""Encoders in Flax NNX, and reading and naming their pre-trained weights."""
