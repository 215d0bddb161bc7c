"""Bad inputs from the user's point of view: media, annotations and manifests, settings. docs/bad-inputs.md is their table."""

from bad_labels import OWN_LABELS
from bad_media import MEDIA
from bad_settings import SETTINGS
from bad_tables import TABLES

CASES = [*MEDIA, *TABLES, *OWN_LABELS, *SETTINGS]
