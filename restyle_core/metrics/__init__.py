"""Metrics of reconstructions against their photographs."""
