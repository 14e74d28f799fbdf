"""What live clients want, and what other processes share."""
