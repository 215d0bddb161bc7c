"""GRADA: expression embeddings of face crops."""
