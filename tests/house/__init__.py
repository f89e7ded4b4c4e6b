"""Tests of the house itself: layout, make targets, lock files, import rules, requirements."""
