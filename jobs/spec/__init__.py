"""Job specifications: every option of a run, typed."""
