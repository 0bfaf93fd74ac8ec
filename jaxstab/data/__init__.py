"""From texts to arrays on the device: sources, splits, tokens, batches."""
