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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
