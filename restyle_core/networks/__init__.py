"""Generator and encoders, in the key layouts of the published checkpoints."""
