"""The container image: how it is built, how it starts, how it says that it is alive."""
