"""Order-book sessions and their daily files, for every venue with books."""
