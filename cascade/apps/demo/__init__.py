"""`cascade demo`: edge and device as processes, a link made worse on purpose, and one real question."""
