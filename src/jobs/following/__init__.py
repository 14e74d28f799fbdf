"""Who is followed how: the plan, turns, looks and polls over every way out."""
