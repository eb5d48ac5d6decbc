"""The serving app: the champion answers requests, and every acknowledged answer is on record."""
