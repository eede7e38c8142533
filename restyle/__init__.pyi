from .core.errors import (
    CheckpointError,
    FatalError,
    RejectError,
    RejectReason,
    RestyleError,
    SpecError,
    TransientError,
)
from .core.faces.alignment import Face, Framing, align_faces
from .core.imaging.decoding import decode_image
from .core.inference.inversion import invert, optimize
from .core.inference.model import Model, load_model
from .core.inference.refinement import Start
from .core.inference.results import Inversion
from .pipeline.editing.edit import edit
from .pipeline.editing.request import EditOutcome, EditRequest, Move
from .pipeline.execution.request import Outcome, Request, Workers
from .pipeline.inversion.run import invert_images
from .pipeline.ledger.settings import InversionSettings
from .pipeline.listener import Interrupted, Listener, Progress
from .pipeline.monitoring.monitor import Monitoring
from .pipeline.results.face_rows import Selection
from .pipeline.results.forms.arrow import latent_frame, latent_reader, latent_table
from .pipeline.results.forms.memory_map import map_latents
from .pipeline.results.forms.torch_dataset import LatentDataset
from .pipeline.results.latents import read_latents
from .pipeline.results.query import query
from .pipeline.sources.options import InputOptions

__all__ = [
    "CheckpointError",
    "EditOutcome",
    "EditRequest",
    "Face",
    "FatalError",
    "Framing",
    "InputOptions",
    "Interrupted",
    "Inversion",
    "InversionSettings",
    "LatentDataset",
    "Listener",
    "Model",
    "Monitoring",
    "Move",
    "Outcome",
    "Progress",
    "RejectError",
    "RejectReason",
    "Request",
    "RestyleError",
    "Selection",
    "SpecError",
    "Start",
    "TransientError",
    "Workers",
    "align_faces",
    "decode_image",
    "edit",
    "invert",
    "invert_images",
    "latent_frame",
    "latent_reader",
    "latent_table",
    "load_model",
    "map_latents",
    "optimize",
    "query",
    "read_latents",
]
