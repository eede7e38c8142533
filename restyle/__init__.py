"""ReStyle: image collections to StyleGAN latents.

::

    import restyle

    model = restyle.load_model("faces64")  # on pictures in memory
    result = restyle.invert(model, images, steps=5)

    rows, w = restyle.read_latents("OUT", where="id_similarity > 0.6")  # from a finished run
    newest = restyle.query("OUT", "select source, lpips from latents").read_all()

    settings = restyle.InversionSettings(model="faces64")  # a resumable run over a collection
    restyle.invert_images(restyle.Request("PHOTOS", "OUT", settings))
    smile = restyle.Move("smile", strengths=(-2.0, 2.0))
    restyle.edit(restyle.EditRequest("OUT", "EDITS", [smile]))

``__init__.pyi`` lists the names; each is imported when it is first used, so that importing this
package costs nothing. The rooms of the project are links in this folder, so that they have one
name in a checkout and installed: ``restyle.kernels``, ``restyle.core``, ``restyle.pipeline`` and
``restyle.jobs``.
"""

import os as _os
import sys as _sys

# What follows would be imported from the current directory, too, where ``python -m`` was started,
# and that may hold a stranger's numpy.py; unless the project itself was found there. Nothing is
# imported to find that out.
_project = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))  # noqa: PTH100, PTH120
if _sys.argv[:1] == ["-m"] and _sys.path[0] not in ("", _project) and not _sys.flags.safe_path:
    del _sys.path[0]

import lazy_loader  # noqa: E402 (not from a stranger's folder)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
