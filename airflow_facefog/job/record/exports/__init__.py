"""The published set in the forms that other tools read: one module per form, one function for all: ``export.export``."""
