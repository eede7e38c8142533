"""How what ships with the project was made."""
