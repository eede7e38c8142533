"""The embedded model faces64: data, training, assembly, measurement."""
