"""What a method remembers between steps: averaged copies and banks, as modules that a checkpoint holds."""
