"""The one room that names concrete classes: locations and settings become things that work."""
