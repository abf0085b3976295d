"""Estimators: plain numbers in, plain numbers out; they know no clock, no I/O and no model."""

from .agreement import AgreementEstimator
from .calibration import Calibration, Confidence
from .cost_curve import CostCurve
from .knowledge import Knowledge
from .link import LinkEstimator, stamp_ms
from .load import LoadEstimator
from .passes import PassEstimator
from .smooth import Smoothed

__all__ = [
    "AgreementEstimator",
    "Calibration",
    "Confidence",
    "CostCurve",
    "Knowledge",
    "LinkEstimator",
    "LoadEstimator",
    "PassEstimator",
    "Smoothed",
    "stamp_ms",
]
