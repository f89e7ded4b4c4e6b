"""Grafana's dashboards: a short description of each in Python, from which the JSON in `dashboards/` is written."""
