"""The questions that auditors ask, as SQL views by theme. ``audit.views`` puts them in order."""
