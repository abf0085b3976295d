"""What a device has measured: shared by its streams, and remembered from one to the next."""

from __future__ import annotations

from .agreement import AgreementEstimator
from .calibration import Calibration
from .link import LinkEstimator
from .load import LoadEstimator
from .passes import PassEstimator
from .smooth import Smoothed

__all__ = ["Knowledge"]


class Knowledge:
    """One device's link, its drafter's pace, the edge's, and how its draft fares."""

    def __init__(self) -> None:
        self.link = LinkEstimator()
        self.draft_step_s = Smoothed(1 / 8)
        """A step of the draft, waiting for the processor included."""
        self.load = LoadEstimator()
        """What else the device does."""
        self.passes = PassEstimator()
        """The edge's."""
        self.agreement = AgreementEstimator()
        """All streams together: what a new one begins with."""
        self.calibration = Calibration()
