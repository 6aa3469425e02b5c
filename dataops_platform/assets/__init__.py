"""The project's own Python assets. Every module in this package is loaded; its assets may use the IO managers."""
