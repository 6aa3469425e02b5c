"""Events: what happened to tables, for other systems, as messages on Pub/Sub.

Like alerts they are read from the ledger, which is the outbox: the table `dataops.events` has which were published and
how far one has looked. A process may die between the commit of a fact and its publication, or the service not answer:
the next round publishes what is missing. An event comes twice only where a process dies after publishing it and before
writing that down, or where two processes publish at the same time; it then has the same id.
"""
