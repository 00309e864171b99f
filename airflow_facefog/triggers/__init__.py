"""Triggers: what a triggerer waits for while no worker slot is held. Light at import."""
