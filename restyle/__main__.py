"""``python -m restyle``: the command."""

from restyle.jobs.program import main

if __name__ == "__main__":
    main()
