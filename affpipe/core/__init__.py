"""Words that every room uses: errors, text, time, settings, tasks. This room knows nothing of files, models or runs."""
