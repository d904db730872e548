"""The index on disk: segments, catalog, snapshots."""
