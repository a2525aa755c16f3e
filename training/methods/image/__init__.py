"""Ways to learn an image encoder: a file each, with its configuration, loss, method and recipes."""
