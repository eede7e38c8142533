"""Editing with the hands: faces of runs and of dropped photographs, moved by sliders."""
