"""What a person or a scheduler runs: the ``restyle`` command."""

from restyle.former_names import warn_of_former_name

warn_of_former_name(__name__, "restyle.jobs")
