"""The ``restyle`` command and job specifications."""

from restyle.former_names import warn_of_former_name

warn_of_former_name(__name__, "restyle.jobs")
