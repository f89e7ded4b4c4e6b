"""Telling people of alerts. Nothing here may hold up the readings: every channel has a queue and a task of its own."""
