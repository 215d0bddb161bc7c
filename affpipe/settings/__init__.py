"""Typed settings: what may be set, its default and its limits. Defaults exist only here."""
