"""Faces in frames: detect, track, crop, choose the subject, landmarks, mouth opening."""
