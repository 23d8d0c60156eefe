"""What do the numbers mean? Pure: no Ray, no MLflow, no HTTP, no environment, no clock."""
