"""llama.cpp's HTTP server on a model made on the spot.

`server` and `tiny_model` run in an environment of their own and may import nothing of ours; `process` starts them.
"""
