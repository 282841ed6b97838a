"""Stores on object stores (S3, Google Cloud Storage, Azure), see docs/object-stores.md."""
