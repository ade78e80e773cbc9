"""Why mail cannot be sent: the closed list of causes, and the engine that finds one for any text."""
