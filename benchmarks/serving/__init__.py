"""The server against its own encoders called directly, and against its peers."""
