"""The front door: parses, authenticates, admits, enqueues and relays answers. It never runs a model."""
