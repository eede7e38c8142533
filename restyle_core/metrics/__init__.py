"""How close a reconstruction comes to its photograph."""
