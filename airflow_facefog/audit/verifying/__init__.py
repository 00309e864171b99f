"""How ``audit.verify`` works inside: findings, trust, chain, runs, parts, and what ``--deep`` adds."""
