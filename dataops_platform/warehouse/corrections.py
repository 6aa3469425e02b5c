"""Refused deliveries that are not tried again, because what they were made of was delivered anew."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dataops_platform.contracts.model import LoadMode, Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.lake.deliveries import Lake, ManifestRef

_FILES = "files"
"""The extractor whose partitions are one file each: a file that was written anew is all there is."""


def corrected(
    table: Table, lake: Lake, deliveries: Sequence[ManifestRef], loaded: Collection[str], refused: Collection[str]
) -> set[str]:
    """Manifests of refused deliveries whose file was delivered again later, by a table's source of files.

    Where deliveries add up, the rows of both would be there once the contract takes the first one, too. With a key, or
    where a delivery replaces, the later one wins by itself. What others land adds up, whatever its name.

    Args:
        deliveries: all of the table, or of some partitions.
        loaded: manifests of those that are loaded.
        refused: manifests of those that were refused as a whole once.
    """
    if table.load_mode is not LoadMode.APPEND or table.source is None or table.source.extractor != _FILES:
        return set()
    left = [ref for ref in deliveries if ref.key in refused and ref.key not in loaded]
    partitions: dict[str, list[str]] = {ref.partition: [] for ref in left}
    for ref in deliveries:
        if ref.partition in partitions:
            partitions[ref.partition].append(ref.key)
    return {
        ref.key
        for ref in left
        if any(_is_of_file(lake, key) for key in partitions[ref.partition] if key > ref.key)
        and _is_of_file(lake, ref.key)
    }


def _is_of_file(lake: Lake, manifest: str) -> bool:
    """Whether a delivery was extracted from a file: one by hand, or whose manifest is damaged, is not known to be."""
    try:
        return lake.read(manifest).origin.get("extractor") == _FILES
    except DataRefused:
        return False
