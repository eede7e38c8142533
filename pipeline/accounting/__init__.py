"""Run records, status, verification, compaction and repair of an output."""
