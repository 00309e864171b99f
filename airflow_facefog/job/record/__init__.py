"""What is asked of a run's record and done to it after it was sealed: verify, prove, replay, export, erase, expire."""
