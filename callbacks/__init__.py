"""What spans batches or leaves the process."""

from callbacks.best_of_n import BestOfN
from callbacks.checkpoint import AtomicCheckpointIO, LastCheckpoint
from callbacks.progress import Progress
from callbacks.references import FillReference
from callbacks.run_record import RunRecord

__all__ = ["AtomicCheckpointIO", "BestOfN", "FillReference", "LastCheckpoint", "Progress", "RunRecord"]
