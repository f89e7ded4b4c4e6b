"""Tests that look across services: real processes on a real server, seen from outside."""
