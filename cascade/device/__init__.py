"""The device: drafts ahead of the edge, streams hints up, and hands commits to the app."""

from .connection import ReconnectSettings
from .device import Device, Vocabulary
from .policy import Policy
from .stream import Stream

__all__ = ["Device", "Policy", "ReconnectSettings", "Stream", "Vocabulary"]
