"""Protocols of others, by thin adapters over the same encoders."""
