"""What goes wrong because of what a user gave."""


class InputError(ValueError):
    """What a user gave cannot be used: one line that names the file, key or row, and the remedy."""
