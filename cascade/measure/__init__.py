"""Estimators: plain numbers in, plain numbers out; they know no clock, no I/O and no model."""

from .agreement import AgreementEstimator
from .bandwidth import BandwidthEstimator
from .calibration import Calibration, Confidence
from .cost_curve import CostCurve
from .knowledge import Knowledge
from .link import LinkEstimator, stamp_ms
from .load import LoadEstimator
from .passes import PassEstimator
from .smooth import Smoothed
from .stamps import PendingStamps

__all__ = [
    "AgreementEstimator",
    "BandwidthEstimator",
    "Calibration",
    "Confidence",
    "CostCurve",
    "Knowledge",
    "LinkEstimator",
    "LoadEstimator",
    "PassEstimator",
    "PendingStamps",
    "Smoothed",
    "stamp_ms",
]
