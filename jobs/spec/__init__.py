"""Job specifications: the typed options of a run."""
