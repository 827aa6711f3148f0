"""Decoding, cutting and painting pictures. Needs Pillow, an extra."""
