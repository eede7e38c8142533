from .checkpoints.conversion import convert
from .errors import RestyleError
from .faces.alignment import Face, Framing, align_faces
from .imaging.decoding import decode_image
from .inference.inversion import invert, optimize
from .inference.model import Model, load_model
from .inference.refinement import Step, refine
from .inference.results import Inversion
from .networks.config import ModelConfig

__all__ = [
    "Face",
    "Framing",
    "Inversion",
    "Model",
    "ModelConfig",
    "RestyleError",
    "Step",
    "align_faces",
    "convert",
    "decode_image",
    "invert",
    "load_model",
    "optimize",
    "refine",
]
