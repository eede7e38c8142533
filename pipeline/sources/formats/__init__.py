"""Read files that contain several inputs (shards) or name them (lists)."""
