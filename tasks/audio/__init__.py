"""What rooms share of audio: one block reader, one short-time transform, and decibels."""
