"""Alerts: what the ledger says went wrong, told once to each channel until it changes, and told when it is well again.

Everything starts from the ledger: verdicts, refusals, and how runs ended. It is the outbox, too: the table
`dataops.alerts` has what each channel was told and how far it was looked, so that a process may die at any point, or a
channel not answer, and nothing is lost. A channel hears of something twice only where a process dies after telling it
and before writing that down.
"""
