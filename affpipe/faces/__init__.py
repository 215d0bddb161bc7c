"""Faces in frames: detection, tracks, crops, choice of the subject, landmarks, mouth opening."""
