"""Alpaca as one venue of the running program."""
