"""An OpenAI-compatible endpoint on the device, in front of the public `Device`."""

from .options import GatewayOptions
from .server import Gateway

__all__ = ["Gateway", "GatewayOptions"]
