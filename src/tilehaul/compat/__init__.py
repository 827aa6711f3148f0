"""Small doors for programs written to older calls: the same names over the one engine."""
