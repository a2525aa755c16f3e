"""What each method of the client does, as a generator of calls: both clients run the same ones."""
