"""Where bytes are kept: memory, directories, buckets, MBTiles, PMTiles, GeoPackage."""
