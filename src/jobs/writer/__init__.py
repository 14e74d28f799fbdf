"""Which of several collectors may write, and when it was last alive."""
