"""Plan: settings and manifest become stages, keys, shards and paths. Nothing heavy is imported here."""
