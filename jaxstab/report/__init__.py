"""What people look at. Computes nothing."""
