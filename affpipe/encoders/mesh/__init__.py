"""FaceMesh geometry of the subject's face."""
