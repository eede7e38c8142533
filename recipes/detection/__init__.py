"""Measurements behind the detectors' constants and their table in docs/input.md and docs/faces.md.

All read a folder that ``python -m recipes.photographs`` made:

- ``python -m recipes.detection.boxes FOLDER``: from the convolutional detector's boxes to those of
  the frontal one, and what that does to landmarks.
- ``python -m recipes.detection.turns FOLDER``: how far a head may be turned.
- ``python -m recipes.detection.scores FOLDER``: what the convolutional detector says of the frontal
  detector's faces of low score.
- ``python -m recipes.detection.table FOLDER``: precision and recall of the detectors.
"""
