"""Rules to verdicts: predicates, planner, gate and scorecard."""
