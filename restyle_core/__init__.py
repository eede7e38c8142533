"""ReStyle inversion: from images to StyleGAN latents.

::

    from restyle.core import load_model
    from restyle.core import align_faces
    from restyle.core import invert

    model = load_model("faces64")
    result = invert(model, images, steps=5)

``__init__.pyi`` lists the names; each is imported when it is first used, so that importing this
package costs nothing.
"""

import lazy_loader

from restyle.former_names import warn_of_former_name

warn_of_former_name(__name__, "restyle.core")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub("restyle.core", __file__)
