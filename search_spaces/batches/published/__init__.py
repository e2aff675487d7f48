"""Batches of published tables."""
