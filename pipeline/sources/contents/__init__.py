"""What is in a file that was found, and what is left out on the way."""
