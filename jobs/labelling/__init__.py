"""What the labels are made of: `millwright labels` in its pieces."""
