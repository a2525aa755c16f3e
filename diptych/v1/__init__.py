"""The wire types, generated from `protos/diptych/v1` by `protos/generate.py`."""
