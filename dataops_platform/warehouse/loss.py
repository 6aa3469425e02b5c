"""What a table would lose that is emptied and loaded anew from the lake: deliveries that don't fit its contract now."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.lake.deliveries import Delivery, Lake
from dataops_platform.warehouse.base import NoSuchTable, Warehouse
from dataops_platform.warehouse.corrections import corrected
from dataops_platform.warehouse.definitions import UNKNOWN, histories
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform.words import counted

_READERS = 16
"""Deliveries that are looked at at the same time."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What becomes of the deliveries that a table is made of.

    Attributes:
        deliveries: how many there are, and how many wait to be loaded.
        refused: manifest → why it would not be loaded again.
        retried: how many more were refused before, and fit the contract now: a load tries them again. Whether their
            rows are refused, only that tells.
    """

    deliveries: int
    refused: Mapping[str, str]
    retried: int = 0

    @property
    def summary(self) -> str:
        """How many wouldn't be loaded, and why the first of them."""
        _, why = min(self.refused.items())
        more = f" (and {len(self.refused) - 1:,} more)" if len(self.refused) > 1 else ""
        return f"{len(self.refused):,} of {counted(self.deliveries, 'delivery')} would be refused: {why}{more}"


def loss(warehouse: Warehouse, lake: Lake, table: Table) -> Loss:
    """What a table would lose. Looks at each delivery as a load does, but not at its rows.

    What isn't loaded yet counts too: it may be waiting since the table was emptied before. What was refused doesn't:
    the table has nothing of it.
    """
    ledger = Ledger(warehouse)
    try:
        loaded, refused_before = ledger.loaded(table.name), ledger.refused(table.name)
    except NoSuchTable:  # no ledger either
        loaded, refused_before = set(), set()
    manifests = list(lake.manifests(table.name))
    there = {ref.key for ref in manifests}
    refused = {key: f"manifest {key} is gone from the lake" for key in loaded if key not in there}
    deliveries: list[Delivery] = []

    def read(key: str) -> Delivery | str:
        try:
            delivery = lake.read(key)
        except DataRefused as error:
            return str(error)
        return lake.damage(delivery) or delivery

    keys = sorted(there)
    with ThreadPoolExecutor(_READERS) as pool:
        for key, found in zip(keys, pool.map(read, keys), strict=True):
            if isinstance(found, Delivery):
                deliveries.append(found)
            else:
                refused[key] = found
    uris = {item.key: lake.store.uri(item.key) for delivery in deliveries for item in delivery.objects}
    history = histories(warehouse, [table.name]).get(table.name, UNKNOWN)
    refused |= warehouse.unfit(table, deliveries, uris, history)
    left = refused_before - loaded
    lost = {key: why for key, why in refused.items() if key not in left}
    gone = corrected(table, lake, manifests, loaded, refused_before)
    return Loss(len((there | loaded) - left), lost, len((there & left) - refused.keys() - gone))
