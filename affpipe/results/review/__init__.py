"""Curation by eye: a sheet of the tracks of a set of videos, and the file in which a person decides."""
