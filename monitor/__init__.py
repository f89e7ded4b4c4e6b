"""The system monitor: how hosts and queues are doing."""
