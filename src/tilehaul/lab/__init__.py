"""The laboratory: a tile server that misbehaves, and the benchmark."""
