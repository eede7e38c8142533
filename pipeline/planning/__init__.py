"""Planning: what an input lists and no plan holds yet becomes units of the manifest."""
