"""An edge on the network: its ports, its tokens and certificates, its pages for operators."""

from .options import ServeOptions, read_config
from .serving import Serving

__all__ = ["ServeOptions", "Serving", "read_config"]
