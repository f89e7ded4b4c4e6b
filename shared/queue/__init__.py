"""The queue: arq 0.28 as the engine, our own claiming, leasing, fencing and delivery on Redis.

`client` enqueues and reads, `engine` runs jobs, `lua/` holds the operations. No arq type leaves this package.
"""
