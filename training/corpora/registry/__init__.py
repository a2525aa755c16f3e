"""Taking data out of packages: the registry's own client says where a file is, one downloader of ours brings it."""
