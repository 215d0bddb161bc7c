"""Encoders: arrays of media in, arrays of features out; one file each."""
