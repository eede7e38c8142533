"""Commands that plan and invert."""
