"""How to get an MQTT broker for Cascade: one inside your process, or a real one, soundly configured."""
