"""Importers: from folders of videos and annotations to data_manifest.csv, an audit of the content, and a check of a manifest."""
