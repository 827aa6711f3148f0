"""Flags, environment and YAML become frozen settings."""
