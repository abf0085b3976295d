"""`cascade chat`: a conversation in a terminal, or lines in a pipe."""
