"""Collectors: each reads one part of the world into a frozen reading, or fails alone."""
