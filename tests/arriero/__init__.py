"""Tests of the client and the `arriero` command."""
