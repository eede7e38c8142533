"""Generator and encoders, in the key layouts that checkpoints are published in."""
