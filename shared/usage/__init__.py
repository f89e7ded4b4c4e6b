"""What the fleet did with each model on each host: counted by workers in memory, added up in Redis, read by the model
manager and the monitor.
"""
