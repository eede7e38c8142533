"""Commands that inspect an output."""
