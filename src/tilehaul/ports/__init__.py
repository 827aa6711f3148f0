"""The seams: small Protocols and the frozen values that cross them."""
