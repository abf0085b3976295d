"""`cascade top`: what edges and gateways are doing, from their `/metrics`."""
