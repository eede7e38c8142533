"""Commands that plan and run inversions."""
