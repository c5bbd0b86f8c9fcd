"""Helpers for tests: agents that lie, processes of odd kinds."""
