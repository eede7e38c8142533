"""The commands, grouped by what a person does."""
