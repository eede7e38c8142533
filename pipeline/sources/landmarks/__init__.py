"""Files of landmarks that somebody already has: Parquet, CSV, text and JSON."""
