"""What is looked up afterwards: holes, and why orders ended."""
