"""From folders of videos and annotations to data_manifest.csv, an audit of what is there, and a check of what is written."""
