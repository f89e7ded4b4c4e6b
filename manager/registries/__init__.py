"""Outside registries of models: searching them, and keeping what was found for a while."""
