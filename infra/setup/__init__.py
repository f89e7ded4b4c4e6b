"""Sets up the environment (`make setup`), writes the lock files, tells every setting."""
