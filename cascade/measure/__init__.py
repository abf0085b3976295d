"""Estimators: plain numbers in, plain numbers out; they know no clock, no I/O and no model."""

from .agreement import AgreementEstimator
from .link import LinkEstimator, stamp_ms
from .smooth import Smoothed

__all__ = ["AgreementEstimator", "LinkEstimator", "Smoothed", "stamp_ms"]
