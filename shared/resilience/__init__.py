"""Policies for things that fail: pure functions, their Redis side beside them."""
