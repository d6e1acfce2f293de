"""Features that a frozen part of a model gave, kept on disk and found again by what they were computed from."""

from zoo.features.batches import FeatureBatches, StoredRows
from zoo.features.layout import Layout
from zoo.features.limits import make_room, size_limit
from zoo.features.store import FeatureStore, RowWriter, features_folder, row_key

__all__ = [
    "FeatureBatches",
    "FeatureStore",
    "Layout",
    "RowWriter",
    "StoredRows",
    "features_folder",
    "make_room",
    "row_key",
    "size_limit",
]
