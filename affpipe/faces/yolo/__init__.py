"""YOLO: face detection with a checkpoint of ultralytics, whose network is rebuilt from its description."""
