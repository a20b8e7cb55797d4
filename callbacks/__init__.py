"""Lightning callbacks: evaluation of candidate sets, checkpoints and safe stops, costs, records of runs."""

from callbacks.best_of_n import BestOfN
from callbacks.checkpoint import AtomicCheckpointIO, LastCheckpoint
from callbacks.costs import Costs
from callbacks.finite import RefuseNonfinite
from callbacks.policy_accuracy import PolicyAccuracy
from callbacks.progress import Progress
from callbacks.references import FillReference
from callbacks.run_record import RunRecord
from callbacks.safe_stop import SafeStop
from callbacks.step_bench import StepBench

__all__ = [
    "AtomicCheckpointIO",
    "BestOfN",
    "Costs",
    "FillReference",
    "LastCheckpoint",
    "PolicyAccuracy",
    "Progress",
    "RefuseNonfinite",
    "RunRecord",
    "SafeStop",
    "StepBench",
]
