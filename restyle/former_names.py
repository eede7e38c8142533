"""The import names that the rooms had before they were parts of ``restyle``."""

import warnings


def warn_of_former_name(name: str, new: str) -> None:
    """Warn when a room is imported by the name of its folder, as a checkout makes possible.

    Args:
        name: what the room was imported as.
        new: its name.
    """
    if name != new:
        # At the import statement: above this function and the room's own __init__.
        message = f"import {new} instead of {name}, which version 0.3 will not have"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
