"""Fixtures for the tests that need a real API server; `control_plane` and `namespace` are in tests/conftest.py."""
