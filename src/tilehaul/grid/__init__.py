"""Where a tile is: addresses, areas, orders. Pure: no I/O, no clock."""
