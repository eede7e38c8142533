"""Commands for operation: specifications, clusters, compaction, benchmarks."""
