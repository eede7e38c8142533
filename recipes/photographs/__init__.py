"""Photographs of 1 to 18 megapixels with known faces, for measuring detection and alignment.

``python -m recipes.photographs OUT --seed 0`` makes them. Four subsets, a folder each:

- ``standard``: one to twelve faces of 60 to 1,500 pixels, rotated by up to 30 degrees, in several
  exposures and sizes, some turned upright by EXIF alone.
- ``originals``: the pictures of the packages as they are.
- ``hard``: turned, small, dark and partly hidden faces.
- ``faceless``: scenes, textures, and heads from behind.

``truth.json`` beside them has the faces of each (:mod:`recipes.photographs.truth`).

The pictures come from packages of the registry, which are downloaded once into a cache and checked
by their digests:

- ``openpeople`` 0.1.2 (MIT): sixty generated pictures of ten people who do not exist.
- ``face_recognition`` 1.3.0 (MIT), its source distribution: official portraits of two politicians
  by photographers of the government of the United States, in the public domain.
- ``scikit-image`` 0.26.0 (BSD; its pictures are in the public domain or CC0, see its
  ``data/README.txt``): a portrait of an astronaut by NASA, scenes and textures.
- ``scikit-learn`` 1.9.1 (BSD; its two pictures are CC BY 2.0, by (c) Tzuhsun Hsu and (c) daneden on
  Flickr).

dlib's distributions on the registry do not have the group photographs of its repository.
"""
