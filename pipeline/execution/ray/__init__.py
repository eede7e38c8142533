"""Units of work on a Ray cluster; nothing else knows Ray."""
