"""Raw frames written down, and played again."""
