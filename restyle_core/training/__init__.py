"""Training of generators and encoders; each run is a folder that can be resumed."""
