"""What bytes are: sniffing, verifying, small formats. Pure: no I/O, no clock."""
