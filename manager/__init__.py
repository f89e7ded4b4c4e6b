"""The model manager: which models are installed and loaded, on which host."""
