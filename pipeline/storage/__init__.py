"""Where files live: any fsspec URI, with whole writes, retries, explained errors and a lock."""
