"""Tests of `infra/`."""
