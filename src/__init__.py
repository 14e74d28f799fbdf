"""A collector of what traders and order books did."""

__version__ = "0.1.0"
