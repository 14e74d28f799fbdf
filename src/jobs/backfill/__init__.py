"""The past made whole: readings of a venue's history with a cursor."""
