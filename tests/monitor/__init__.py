"""Tests of the system monitor."""
