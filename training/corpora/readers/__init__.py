"""What reads the user's files and the packaged sets into documents and image items."""
