"""Sixty bad inputs from the user's point of view: 20 media, 20 annotations or manifests, 20 settings. docs/bad-inputs.md is their table."""

from bad_media import MEDIA
from bad_settings import SETTINGS
from bad_tables import TABLES

CASES = [*MEDIA, *TABLES, *SETTINGS]
