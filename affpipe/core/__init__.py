"""Words that every room uses: errors, text, time, settings, tasks. Nothing here knows of files, models or runs."""
