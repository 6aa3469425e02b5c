"""Tables: load, publish, export and the ledger, behind one protocol per engine."""
