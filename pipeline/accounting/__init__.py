"""What was run and what it came to: run records, status, compaction, and the proof."""
