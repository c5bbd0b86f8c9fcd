"""Waits for what only happens while nobody looks, and then takes the evidence."""
