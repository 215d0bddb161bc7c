"""Encoders, a folder each: faces, segments and windows of sound in, features out."""
