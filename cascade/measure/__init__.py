"""Estimators: plain numbers in, plain numbers out; they know no clock, no I/O and no model."""

from .agreement import AgreementEstimator
from .calibration import Calibration, Confidence
from .knowledge import Knowledge
from .link import LinkEstimator, stamp_ms
from .passes import PassEstimator
from .smooth import Smoothed

__all__ = [
    "AgreementEstimator",
    "Calibration",
    "Confidence",
    "Knowledge",
    "LinkEstimator",
    "PassEstimator",
    "Smoothed",
    "stamp_ms",
]
