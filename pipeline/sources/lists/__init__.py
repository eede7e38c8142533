"""Parse the entries of lists into inputs, and check the addresses that they name."""
