"""Storage on any fsspec URI, with atomic writes, retries, error messages and a lock."""
