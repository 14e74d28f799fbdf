"""The demonstration: simulated venues beside the program."""
