"""Encoders: faces, segments and windows of sound in, features out; a folder each."""
