"""The commands, grouped by the user's activity."""
