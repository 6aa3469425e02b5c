"""Objects: key layout, deliveries with manifests, and the stores that hold them."""

from dataops_platform.lake.deliveries import DeliveredObject, Delivery, Lake, ManifestRef
from dataops_platform.lake.local import LocalStore
from dataops_platform.lake.store import ObjectConflict, ObjectInfo, ObjectMissing, ObjectStore

__all__ = [
    "DeliveredObject",
    "Delivery",
    "Lake",
    "LocalStore",
    "ManifestRef",
    "ObjectConflict",
    "ObjectInfo",
    "ObjectMissing",
    "ObjectStore",
]
