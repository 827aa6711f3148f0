"""Where tiles come from; behaviour is added by wrapping."""
