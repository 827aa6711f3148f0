"""HTTP: the tile route, probes, the map page."""
