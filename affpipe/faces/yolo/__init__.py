"""YOLO: a detector of faces by a checkpoint of ultralytics, whose network is built anew."""
