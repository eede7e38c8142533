"""What a person or a scheduler runs: the ``restyle`` command."""
