"""Where bytes are kept: memory, directory, MBTiles."""
