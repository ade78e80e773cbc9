"""Asking identity providers for tokens."""
