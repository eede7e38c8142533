"""How units of work are run: requests, rounds, placement, and the stages of a worker."""
