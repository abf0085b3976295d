"""The device: drafts ahead of the edge, streams hints up, and hands commits to the app."""

from ..prices import Objective, Prices, Usage
from .answering import AnswerStream
from .chat import Chat
from .device import Device
from .equipment import Vocabulary
from .ledger import Ledger
from .planning import Circumstances
from .policy import Policy
from .route import ReconnectSettings
from .stream import Stream

__all__ = [
    "AnswerStream",
    "Chat",
    "Circumstances",
    "Device",
    "Ledger",
    "Objective",
    "Policy",
    "Prices",
    "ReconnectSettings",
    "Stream",
    "Usage",
    "Vocabulary",
]
