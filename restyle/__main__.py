"""``python -m restyle``: the command."""

from restyle.jobs.cli import main

if __name__ == "__main__":
    main()
