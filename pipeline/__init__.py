"""Inversion and editing of collections: sources, units of work, ledger, datasets, readers.

::

    from restyle.pipeline import read_latents

    rows, w = read_latents("OUT", where="id_similarity > 0.6")

``__init__.pyi`` lists the names; each is imported when it is first used, so that importing this
package costs nothing.
"""

import lazy_loader

from restyle.former_names import warn_of_former_name

warn_of_former_name(__name__, "restyle.pipeline")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub("restyle.pipeline", __file__)
