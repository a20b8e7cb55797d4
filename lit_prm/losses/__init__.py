"""Training objectives: functions of rewards and outcome labels, one objective a file.

Every file of this folder is imported here, and every objective in it can be imported from ``lit_prm.losses`` and named
in a config by its class name alone. So adding a loss is adding a file. The imports below serve type checkers, which
do not see names that are found at run time.
"""

from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules

from lit_prm.losses.base import Loss, Observed, View
from lit_prm.losses.biased_nca import BiasedNCA
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.kway import InfoNCA, KWay, KWayNCA
from lit_prm.losses.nca import NCA
from lit_prm.losses.pairs import AllPairs, BestWorst, CappedPairs, DisjointPairs, PairLoss, Pairs
from lit_prm.losses.prefix_ce import PrefixCE
from lit_prm.losses.step_rank import StepRank
from lit_prm.losses.steps import StepAbs, StepCE, StepLoss, StepMean, StepSquared

__all__ = [
    "CE", "DPO", "KTO", "NCA", "BiasedNCA", "InfoNCA", "KWayNCA", "PrefixCE",
    "StepCE", "StepAbs", "StepSquared", "StepRank",
    "AllPairs", "DisjointPairs", "CappedPairs", "BestWorst",
    "Loss", "PairLoss", "KWay", "StepLoss", "StepMean", "Pairs", "View", "Observed",
]  # fmt: skip


def _discover() -> None:
    """Import every file of this folder and export the objectives that the list above does not name."""
    for module in iter_modules(__path__):
        for name, value in vars(import_module(f"{__name__}.{module.name}")).items():
            if isinstance(value, type) and issubclass(value, Loss) and not isabstract(value) and name not in __all__:
                globals()[name] = value
                __all__.append(name)


_discover()
