"""The forms in which requests, answers and events travel, and their translations."""
