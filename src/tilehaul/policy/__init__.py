"""What to do next: values in, decision out. Time and luck are arguments."""
