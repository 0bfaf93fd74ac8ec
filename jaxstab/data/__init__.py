"""From a source of texts to arrays on the device: sources, splits, tokens, batches."""
