"""What stays up? The Ray Serve application and its HTTP API."""
