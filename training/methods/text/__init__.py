"""Ways to learn a sentence encoder: a file each, with its configuration, method and recipes."""
