"""Who is worth following, by the venue's leaderboard."""
