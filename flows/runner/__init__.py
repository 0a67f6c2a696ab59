"""One run in one process: its set-up, its window of tracks, and who listens to it."""
