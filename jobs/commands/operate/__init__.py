"""Commands that operate: specifications, clusters, compaction, speed."""
